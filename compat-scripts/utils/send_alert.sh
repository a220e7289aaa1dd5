# Sends an alert by mail and as a text message, and not too often. Not a program: it is sourced.
#
#   source /etc/drcm/utils/send_alert.sh
#   send_alert SUBJECT BODY [LIST]
#
# BODY is the text, or the name of a file with it. LIST (comma separated) takes the place of both lists of cm_alert_list.sh, which
# is written with its defaults when it is missing. After a message was sent there is none for ALERTTIMESPANHOURS hours.
# send_alert returns 0 when it was sent or was not due, 1 when it could not be sent: then the next one is due at once.
#
# Variables: ALERTTIMESPANHOURS  hours without a message after one (default 4; 0 sends every one)
#            EMAILlist, TEXTlist receivers of mails and of text messages (set by cm_alert_list.sh)
#            SENDEMAIL, SENDTEXT whether they get any (default TRUE)
#            VARdir              where the time of the last message is kept (default: /var/spool/drcm, or below HOME for those
#                                who may not write there)
#            TIMEFILE            file with that time (default VARdir/alert_last_sent)
#            INITFILE            made with the first message; without it the next one is due (default VARdir/alert_init)
#            UNIXMAILPROGRAM     called as PROGRAM -s SUBJECT RECEIVER..., with the body on standard input (default: mail, mailx
#                                or s-nail; else sendmail, and so is any program of that name called)
# shellcheck shell=bash

# shellcheck source-path=SCRIPTDIR source=cluster_functions.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/cluster_functions.sh" || return 1 2> /dev/null || exit 1

# A text message holds no more.
alert_text_length=160
# Nobody reads more.
alert_body_length=200000

# Sets EMAILlist and TEXTlist.
alert_lists() {
    local file=$conf_dir/cm_alert_list.sh
    if [ ! -e "$file" ] && [ -d "$conf_dir" ]; then
        write_whole "$file" "# Who is told of trouble in the cluster. Comma separated, no spaces.
export EMAILlist=\"root\"
# Each mobile carrier has a domain that turns mails into text messages, for example 555-555-5555@vtext.com
export TEXTlist=\"\"" 2> /dev/null && echo "wrote $file: say there who is to be told; until then it is root"
    fi
    EMAILlist=${EMAILlist-root} TEXTlist=${TEXTlist-}
    if [ -e "$file" ]; then
        source_conf "$file" || complain "WARNING: $file cannot be used; telling ${EMAILlist:-nobody}"
    fi
}

# Sets VARdir, TIMEFILE, INITFILE.
alert_files() {
    if [ -z "${VARdir:-}" ]; then
        VARdir=${DRCM_SPOOL_DIR:-/var/spool/drcm}
        if [ ! -d "$VARdir" ] || [ ! -w "$VARdir" ]; then
            VARdir=${HOME:-/tmp/$(id -u)}/.drcm
        fi
    fi
    [ -d "$VARdir" ] || (umask 077 && mkdir -p -- "$VARdir") || return 1
    TIMEFILE=${TIMEFILE:-$VARdir/alert_last_sent}
    INITFILE=${INITFILE:-$VARdir/alert_init}
}

# Whether a message may be sent now.
alert_is_due() {
    local hours=${ALERTTIMESPANHOURS:-4} last now
    if ! [[ $hours =~ ^[0-9]{1,6}$ ]]; then
        complain "WARNING: ALERTTIMESPANHOURS is no number of hours: $hours; it counts as 4"
        hours=4
    fi
    hours=$(( 10#$hours ))
    [ -e "$INITFILE" ] && [ -e "$TIMEFILE" ] || return 0
    last=$(head -c 20 -- "$TIMEFILE" 2> /dev/null)
    now=$(date +%s)
    # A time in the future is none: the clock was wrong.
    [[ $last =~ ^[0-9]{1,12}$ ]] && (( 10#$last <= now )) || return 0
    (( now - 10#$last < hours * 3600 )) || return 0
    echo "no alert is sent: the last one was $(( (now - 10#$last) / 60 )) minutes ago, and there is one every $hours hours at most"
    return 1
}

# Hands one message to the mail program: subject, comma separated receivers; the body on standard input.
alert_mail() {
    local subject=$1 receivers=() receiver program=${UNIXMAILPROGRAM:-} name
    IFS=', ' read -r -a receivers <<< "$2"
    for receiver in ${receivers[@]+"${receivers[@]}"}; do
        # An option, or a pipe or file to those mail programs that know such receivers.
        if ! [[ $receiver =~ ^[A-Za-z0-9_][^[:space:]\|\<\>/\`\;]*$ ]]; then
            complain "ERROR: not an address: $receiver"
            return 1
        fi
    done
    if [ -z "$program" ]; then
        for name in mail mailx s-nail sendmail; do
            program=$(command -v "$name") && break
        done
        [ -n "$program" ] || {
            complain "ERROR: there is no mail program: install one, or name it by UNIXMAILPROGRAM"
            return 1
        }
    fi
    case ${program##*/} in
        sendmail*)
            {
                printf 'To: %s\nSubject: %s\nContent-Type: text/plain; charset=UTF-8\n\n' "$(IFS=,; echo "${receivers[*]}")" "$subject"
                cat
            } | timeout --kill-after=5 60 "$program" -i -- "${receivers[@]}"
            ;;
        *) timeout --kill-after=5 60 "$program" -s "$subject" "${receivers[@]}" ;;
    esac
}

# What is sent now, with the guard held.
alert_send_guarded() {
    local subject=$1 body=$2 list=${3:-} sent=0 failed=0 short
    alert_is_due || return 0
    if [ -n "$list" ]; then
        EMAILlist=$list TEXTlist=''
    fi
    if [ -n "$EMAILlist" ] && is_set_to_yes "${SENDEMAIL:-TRUE}"; then
        if alert_mail "$subject" "$EMAILlist" <<< "$body"; then sent=1; else failed=1; fi
    fi
    if [ -n "$TEXTlist" ] && is_set_to_yes "${SENDTEXT:-TRUE}"; then
        # The verdict is what matters, and the end of a report.
        short=$(grep '^Cluster status: ' <<< "$body" | tail -n 1)
        short=${short:-${body//$'\n'/ }}
        if alert_mail "$subject" "$TEXTlist" <<< "${short:0:alert_text_length}"; then sent=1; else failed=1; fi
    fi
    if (( sent )); then
        write_whole "$TIMEFILE" "$(date +%s)" && { [ -e "$INITFILE" ] || write_whole "$INITFILE" "$(date +%s)"; } || failed=1
        echo "alert sent: $subject"
    fi
    if (( failed )); then
        complain "ERROR: an alert could not be sent: $subject"
        return 1
    fi
    if (( ! sent )); then
        echo "no alert is sent: there is nobody to tell in $conf_dir/cm_alert_list.sh"
    fi
}

send_alert() {
    local subject=${1:-Cluster alert} body=${2:-}
    # One line, whatever it was made of.
    subject=${subject//[$'\n\r']/ }
    if [ -n "$body" ] && [[ $body != *$'\n'* ]] && [ -f "$body" ]; then
        body=$(head -c "$alert_body_length" -- "$body") || return 1
    fi
    body=${body:0:alert_body_length}
    alert_lists
    alert_files || {
        complain "ERROR: the directory ${VARdir:-} cannot be made"
        return 1
    }
    # Two alerts at the same moment are one. Nothing that is started may keep the guard.
    (
        if ! exec 8>> "$TIMEFILE.guard" || ! flock -w 150 8; then
            complain "ERROR: $TIMEFILE.guard cannot be locked"
            exit 1
        fi
        alert_send_guarded "$subject" "$body" "${3:-}" 8>&-
    )
}
