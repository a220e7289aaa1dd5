# After the files are gone; $1 is 0 at a removal. What the administrator made stays.
# shellcheck shell=sh
if [ "$1" -eq 0 ]; then
    if [ "$(readlink /var/drcm)" = log/drcm ]; then
        rm -f /var/drcm
    fi
    find /etc/drcm /var/log/drcm /var/spool/drcm -depth -type d -empty -delete 2> /dev/null || :
fi
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
fi
