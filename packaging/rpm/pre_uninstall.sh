# Before the files go; $1 is 0 at a removal, 1 at an upgrade, which stops nothing.
# shellcheck shell=sh
if [ "$1" -eq 0 ]; then
    if [ -d /run/systemd/system ]; then
        systemctl disable --now drcm_server || :
    elif [ -x /etc/init.d/drcm_server ]; then
        /etc/init.d/drcm_server stop || :
    fi
fi
