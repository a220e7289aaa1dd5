#!/usr/bin/env bash
# Installs or removes a crontab.
#
# usage: crontab.sh template_file install_location start|stop
#
# start copies the template to install_location under its own name, as a whole or not at all, and touches /etc/crontab so that
# cron reads its directories again. stop removes the copy. Both succeed when there is nothing to do.
# Exit status: 0 done, 1 failed, 2 wrong usage.
#
# Environment: DRCM_SYSTEM_CRONTAB  file to touch (default /etc/crontab; never made when it does not exist)
set -u

usage() {
    echo "usage: ${0##*/} template_file install_location start|stop" >&2
    exit 2
}

fail() {
    echo "ERROR: $*" >&2
    exit 1
}

nudge_cron() {
    local file=${DRCM_SYSTEM_CRONTAB:-/etc/crontab}
    if [ -f "$file" ]; then
        touch -- "$file" || echo "WARNING: cannot touch $file; cron may need a minute to notice" >&2
    fi
}

install_crontab() {
    [ -f "$template" ] || fail "template $template does not exist"
    [ -d "$location" ] || fail "directory $location does not exist"
    if [ -f "$target" ] && [ ! -L "$target" ] && cmp -s -- "$template" "$target"; then
        chmod 644 -- "$target" || fail "cannot set the mode of $target"
        echo "$target is installed already"
        return
    fi
    # The leading dot keeps cron from taking a half-written file for a crontab.
    temporary=$location/.${name}.drcm.$$
    trap 'rm -f -- "$temporary"' EXIT
    rm -f -- "$temporary"
    if ! (umask 022 && set -o noclobber && cat -- "$template" > "$temporary"); then
        fail "cannot write to $location"
    fi
    chmod 644 -- "$temporary" || fail "cannot set the mode of $temporary"
    if [ "$(id -u)" -eq 0 ]; then
        chown 0:0 -- "$temporary" || fail "cannot give $temporary to root"
    fi
    sync -- "$temporary" 2> /dev/null || true
    mv -f -- "$temporary" "$target" || fail "cannot install $target"
    trap - EXIT
    nudge_cron
    echo "installed $target"
}

remove_crontab() {
    if [ ! -e "$target" ] && [ ! -L "$target" ]; then
        echo "$target is not installed"
        return
    fi
    rm -f -- "$target" || fail "cannot remove $target"
    nudge_cron
    echo "removed $target"
}

[ $# -eq 3 ] || usage
template=$1
location=${2%/}
action=$3
name=${template##*/}
if [ -z "$name" ] || [ -z "$2" ]; then
    usage
fi
target=$location/$name

case $action in
    start) install_crontab ;;
    stop) remove_crontab ;;
    *) usage ;;
esac
