# After the files are in place; $1 is 1 at a first installation, 2 at an upgrade. An upgrade interrupts nothing: the new program takes
# the place of the running one.
# shellcheck shell=sh

# Lets the program on disk take the place of the running daemon, if that is one that can: DRCM 1.x would be ended by the signal.
upgrade_in_place() {
    if [ ! -d /run/systemd/system ]; then
        if /etc/init.d/drcm_server status > /dev/null 2>&1; then
            /etc/init.d/drcm_server upgrade || true
        fi
        return
    fi
    pid=$(systemctl show --property=MainPID drcm_server) || return 0
    pid=${pid#MainPID=}
    caught=$(sed -n 's/^SigCgt:[[:space:]]*//p' "/proc/$pid/status" 2> /dev/null) || return 0
    # SIGUSR2 is the twelfth; the upper digits could be more than the shell can count to.
    caught=${caught#"${caught%????}"}
    if [ $(( 0x${caught:-0} & 0x800 )) -ne 0 ]; then
        kill -USR2 "$pid" || true
    fi
}

mkdir -p /var/log/drcm /var/spool/drcm
mkdir -p /etc/drcm
[ -d /etc/drcm/.auth ] || mkdir -m 0700 /etc/drcm/.auth
# Where the documentation of DRCM 1.x has the log.
if [ ! -e /var/drcm ] && [ ! -L /var/drcm ]; then
    ln -s log/drcm /var/drcm
fi
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
fi
if [ "$1" -ge 2 ]; then
    upgrade_in_place
fi
