#!/usr/bin/env bash
# Mounts, unmounts and watches a CIFS (SMB) share.
#
# usage: cifs.sh //host/path target mount|unmount|remount|watch
#
# Credentials come from auth_dir/HOST, a file of shell assignments; when it is missing, a commented template of it is written
# and mounting fails. They are handed to mount in a file, never on a command line, and never printed.
# run_dir/HOST.last holds the time of the last change of the password in seconds since 1970, and run_dir/HOST.expired exists
# while the password is older than its passwordage in days.
# Exit status: 0 done, 1 failed, 2 wrong usage.
#
# Environment: DRCM_AUTH_DIR       default /etc/drcm/.auth
#              DRCM_RUN_DIR        default /var/run/drcm
#              DRCM_MOUNT_OPTIONS  further mount options, comma separated
#              DRCM_MOUNT_TYPE     file system type (default cifs)
#              and those of mount_functions.sh
set -u

auth_dir=${DRCM_AUTH_DIR:-/etc/drcm/.auth}
run_dir=${DRCM_RUN_DIR:-/var/run/drcm}
credentials=

usage() {
    echo "usage: ${0##*/} //host/path target mount|unmount|remount|watch" >&2
    exit 2
}

write_template() {
    (
        umask 077
        set -o noclobber
        cat > "$auth_file" << TEMPLATE
# Credentials for the shares of $host. This file is read by a shell: quote what is special to it.
# Keep it owned by root, mode 600.
export username=""
export password=''
# Days after which the password is overdue; 0 for never.
export passwordage="0"
# Modes and owner of what appears in the mount; leave empty for the defaults of mount.cifs.
export dir_mode="0755"
export file_mode="0644"
export uid=""
export gid=""
TEMPLATE
    )
}

# Sets username, password, passwordage, dir_mode, file_mode, uid, gid.
read_credentials() {
    local owner mode
    if [ ! -e "$auth_file" ]; then
        [ -d "$auth_dir" ] || (umask 077 && mkdir -p -- "$auth_dir") || fail "cannot make $auth_dir"
        write_template || fail "cannot write $auth_file"
        fail "$auth_file was missing; a template has been written there: fill in username and password"
    fi
    [ -f "$auth_file" ] || fail "$auth_file is not a regular file"
    # It is about to be run as a shell script with our rights.
    owner=$(stat -L -c %u -- "$auth_file") || fail "cannot look at $auth_file"
    mode=$(stat -L -c %a -- "$auth_file") || fail "cannot look at $auth_file"
    if [ "$owner" -ne 0 ] && [ "$owner" -ne "$(id -u)" ]; then
        fail "$auth_file belongs to another user; chown root $auth_file"
    fi
    if (( 8#$mode & 8#022 )); then
        fail "$auth_file may be written by others; chmod 600 $auth_file"
    fi
    if (( 8#$mode & 8#044 )); then
        echo "WARNING: $auth_file may be read by others; chmod 600 $auth_file" >&2
    fi
    username='' password='' passwordage=0 dir_mode='' file_mode='' uid='' gid='' domain=''
    # shellcheck source=/dev/null
    . "$auth_file" > /dev/null 2>&1 || fail "$auth_file has an error"
    [ -n "$username" ] || fail "$auth_file has no username"
    case $username$password$domain in
        *$'\n'*) fail "a line feed in the credentials of $auth_file" ;;
    esac
    # What the file exports is for us, not for the environment of every program below.
    export -n username password passwordage dir_mode file_mode uid gid domain
}

# Notes when the password was changed, and marks it when it is overdue.
note_password_age() {
    local changed last=$run_dir/$host.last expired=$run_dir/$host.expired age
    [[ $passwordage =~ ^[0-9]+$ ]] || passwordage=0
    [ -d "$run_dir" ] || return 0
    changed=$(stat -L -c %Y -- "$auth_file") || return 0
    # The file is changed when the password is; an older note of a change is kept up to date by it.
    echo "$changed" > "$last" || return 0
    age=$(( ($(date +%s) - changed) / 86400 ))
    if (( passwordage > 0 && age >= passwordage )); then
        echo "WARNING: the password for $host is $age days old, its age limit is $passwordage; change it and $auth_file" >&2
        echo "$age" > "$expired"
    else
        rm -f -- "$expired"
    fi
}

mount_it() {
    local options status
    read_credentials
    note_password_age
    [ -d "$run_dir" ] || fail "directory $run_dir does not exist"
    credentials=$(umask 077 && mktemp "$run_dir/.cifs.XXXXXXXX") || fail "cannot make a temporary file in $run_dir"
    trap 'rm -f -- "$credentials"' EXIT
    {
        printf 'username=%s\npassword=%s\n' "$username" "$password"
        [ -z "$domain" ] || printf 'domain=%s\n' "$domain"
    } > "$credentials" || fail "cannot write a temporary file"
    options=credentials=$credentials
    [ -z "$uid" ] || options+=,uid=$uid
    [ -z "$gid" ] || options+=,gid=$gid
    [ -z "$dir_mode" ] || options+=,dir_mode=$dir_mode
    [ -z "$file_mode" ] || options+=,file_mode=$file_mode
    [ -z "${DRCM_MOUNT_OPTIONS:-}" ] || options+=,$DRCM_MOUNT_OPTIONS
    bounded "$mount_timeout" mount -t "${DRCM_MOUNT_TYPE:-cifs}" -o "$options" -- "$source" "$target" < /dev/null
    status=$?
    rm -f -- "$credentials"
    trap - EXIT
    return "$status"
}

# shellcheck source-path=SCRIPTDIR source=mount_functions.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/mount_functions.sh" || exit 1

[ $# -eq 3 ] || usage
source=$1
target=$2
# Old configurations write one slash where two are meant.
[[ $source == //* ]] || source=/$source
[[ $source =~ ^//([A-Za-z0-9_.:%-]+)/.+ ]] || usage
host=${BASH_REMATCH[1]}
auth_file=$auth_dir/$host
act "$3"
