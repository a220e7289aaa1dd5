# What the utilities and the file replication need to know of this cluster: the same file on every node. It is read by bash.
# shellcheck shell=bash

# A name for this cluster, without spaces.
export CLUSTER_NAME=""

# Storage server for backup_to_shared_storage.sh, and the directory on it. Only needed for that script.
export BACKUP_STORAGE_SERVER=""
export BACKUP_STORAGE_LOCATION="/backups"

# The user who runs the replication. Logs in by ssh, with a key and without a password, to the other node and to the storage server;
# may write to this directory.
export BACKUP_USER="root"
# Who it is on the other node, when that is another name.
## export CLUSTER_BACKUP_USER="root"

# Address and interface of the node that normally has the file systems: addresses of the nodes themselves, not floating ones.
export PRIMARY_FILESYSTEMS_IP=""
export PRIMARY_FILESYSTEMS_ETH="eth0"
# The same of the node that they are replicated to, and that has them when the primary node is down.
export BACKUP_FILESYSTEMS_IP=""
export BACKUP_FILESYSTEMS_ETH="eth0"
# The primary node as the cluster calls it (nodename or hostname), where PRIMARY_FILESYSTEMS_IP is not its keep_alive_ip.
## export PRIMARY_FILESYSTEMS_NODE=""

# Other addresses for rsync, to move its traffic to another network.
## export PRIMARY_FILESYSTEMS_RSYNC_IP=""
## export BACKUP_FILESYSTEMS_RSYNC_IP=""

# A directory on the primary node that keeps, at a failback, each file that is replaced or deleted there. It needs room.
## export FAILBACK_SAVE_DIR="/var/spool/drcm/failback_saved"
# How many files one mirror may delete; options of rsync.
## export SYNC_MAX_DELETE=""
## export SYNC_RSYNC_OPTIONS="-H --numeric-ids"
# Where a BACKUP_USER other than root may write: locks and flags; what must outlive a reboot. The same on both nodes.
## export DRCM_RUN_DIR="/var/run/drcm"
## export DRCM_SPOOL_DIR="/var/spool/drcm"
