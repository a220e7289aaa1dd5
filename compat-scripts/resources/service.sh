#!/usr/bin/env bash
# Starts, stops and watches a system service, under systemd or an init of scripts.
#
# usage: service.sh service start|stop|restart|reload|watch|status
#
# start succeeds when the service runs already, stop when it does not run or does not exist. status says by its exit status
# whether it runs; watch starts it when it does not.
# Exit status: 0 done (status: it runs), 1 failed (status: it does not run), 2 wrong usage.
#
# Environment: DRCM_SYSTEMD_RUN_DIR  its existence means systemd is in charge (default /run/systemd/system)
#              DRCM_SYSTEMCTL        systemctl (default: from PATH)
#              DRCM_INIT_DIR         directory of init scripts (default /etc/init.d)
set -u

usage() {
    echo "usage: ${0##*/} service start|stop|restart|reload|watch|status" >&2
    exit 2
}

fail() {
    echo "ERROR: $*" >&2
    exit 1
}

systemctl=${DRCM_SYSTEMCTL:-systemctl}
init_dir=${DRCM_INIT_DIR:-/etc/init.d}

under_systemd() {
    [ -d "${DRCM_SYSTEMD_RUN_DIR:-/run/systemd/system}" ]
}

# active, reloading, activating, deactivating, inactive, failed, or missing.
state() {
    if under_systemd; then
        local load active
        load=$(timeout 20 "$systemctl" show --property=LoadState -- "$service") || fail "systemd does not answer"
        active=$(timeout 20 "$systemctl" show --property=ActiveState -- "$service") || fail "systemd does not answer"
        load=${load#*=}
        active=${active#*=}
        if [ "$load" = not-found ] && [ "$active" = inactive ]; then
            echo missing
        else
            echo "$active"
        fi
    elif [ ! -x "$init_dir/$service" ]; then
        echo missing
    elif run_init_script status > /dev/null 2>&1; then
        echo active
    else
        echo inactive
    fi
}

# An init script gets a plain environment, as init itself would give it, and none of our open files.
run_init_script() {
    env -i PATH="$PATH" HOME=/ LANG="${LANG:-C}" TERM=dumb "$init_dir/$service" "$1" < /dev/null
}

# Carries out start, stop, restart or reload.
order() {
    if under_systemd; then
        "$systemctl" "$1" -- "$service"
    else
        run_init_script "$1"
    fi
}

start() {
    local now
    now=$(state) || exit 1
    case $now in
        active | reloading) echo "$service runs already" ;;
        missing) fail "there is no service $service on this node; install it" ;;
        *)
            if under_systemd; then
                # A unit that failed too often in a row would not even be tried; an order of the cluster is a fresh start.
                timeout 20 "$systemctl" reset-failed -- "$service" > /dev/null 2>&1
            fi
            order start || fail "$service did not start"
            echo "started $service"
            ;;
    esac
}

stop() {
    local now
    now=$(state) || exit 1
    case $now in
        inactive | failed) echo "$service does not run" ;;
        missing) echo "there is no service $service on this node" ;;
        *)
            order stop || [ "$(state)" = inactive ] || fail "$service did not stop"
            echo "stopped $service"
            ;;
    esac
}

status() {
    local now
    now=$(state) || exit 1
    echo "$service: $now"
    case $now in
        active | reloading) exit 0 ;;
        *) exit 1 ;;
    esac
}

# Quiet while all is well: it runs every check interval.
watch() {
    local now
    now=$(state) || exit 1
    case $now in
        # Somebody is at it: to interfere would only make it take longer.
        active | reloading | activating | deactivating) ;;
        *)
            echo "$service does not run, starting it"
            start
            ;;
    esac
}

[ $# -eq 2 ] || usage
service=$1
# A name that begins with a dash would be an option, one with a slash a path.
case $service in
    '' | -* | */* | .*) usage ;;
esac

case $2 in
    start) start ;;
    stop) stop ;;
    restart | reload)
        now=$(state) || exit 1
        [ "$now" != missing ] || fail "there is no service $service on this node; install it"
        order "$2" || fail "$service did not $2"
        echo "$2 of $service done"
        ;;
    watch) watch ;;
    status) status ;;
    *) usage ;;
esac
