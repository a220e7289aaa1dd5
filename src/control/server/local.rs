//! The client socket: `run_dir/drcm_server.sock`.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions, Permissions, TryLockError},
    io,
    os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
    task, time,
};

use super::{ANSWER_DEADLINE, QUESTION_DEADLINE, answer, serve_clients};
use crate::{
    control::{
        ControlError, Handler,
        protocol::{self, FrameError},
        socket_path,
    },
    model::{Response, Right},
    wire::MAX_QUESTION,
};

/// Listens on the client socket. The socket goes when this does.
pub struct LocalServer {
    listener: UnixListener,
    access: Access,
    socket: SocketFile,
}

impl LocalServer {
    /// Makes the socket, mode 0660 of `cluster_group`, in place of one that a former daemon left. Creates `run_dir` when it
    /// is missing. Needs a tokio runtime.
    ///
    /// # Errors
    /// Another daemon runs with this `run_dir`, the user or group is unknown, or a file cannot be made.
    pub fn bind(run_dir: &Path, cluster_user: &str, cluster_group: &str) -> Result<Self, ControlError> {
        let access = Access::of(cluster_user, cluster_group)?;
        let path = socket_path(run_dir);
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| ControlError::File { action, path, source }
        };
        fs::create_dir_all(run_dir).map_err(failed("create", run_dir))?;
        let lock = lock(&run_dir.join("drcm_server.lock"))?;
        // With the lock held, whatever stands there was left behind.
        if fs::symlink_metadata(&path).is_ok_and(|metadata| !metadata.file_type().is_socket()) {
            return Err(ControlError::NotASocket { path });
        }
        // Made beside its place and moved there when its owner and mode are right.
        let new = run_dir.join("drcm_server.new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &new)(error)),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&new).map_err(failed("create the socket", &new))?;
        if let Err(error) = chown(&new, None, Some(access.group.as_raw())) {
            tracing::warn!(socket = %path.display(), group = cluster_group, %error, "cannot give the client socket to cluster_group: only root and the daemon's own user can ask");
        }
        fs::set_permissions(&new, Permissions::from_mode(0o660)).map_err(failed("set the mode of", &new))?;
        fs::rename(&new, &path).map_err(failed("create the socket", &path))?;
        Ok(Self { listener, access, socket: SocketFile { path, _lock: lock } })
    }

    /// Answers clients until `shutdown` holds true or its sender is gone; then removes the socket.
    pub async fn serve(self, handler: Handler, shutdown: watch::Receiver<bool>) {
        let Self { listener, access, socket } = self;
        let converse = |stream| {
            let (access, handler) = (access.clone(), handler.clone());
            async move { converse(stream, &access, &handler).await }
        };
        serve_clients(listener, converse, shutdown).await;
        drop(socket);
    }
}

/// One question and its answer. Whatever is wrong with the client ends it.
async fn converse(mut stream: UnixStream, access: &Access, handler: &Handler) {
    let Ok(question) = time::timeout(QUESTION_DEADLINE, protocol::read_frame(&mut stream, MAX_QUESTION)).await else { return };
    let refuse = |sentence: String| protocol::encode(&Response::Refused(sentence));
    let content = match question {
        Err(FrameError::Io(_)) => return,
        Err(FrameError::TooLong { bytes }) => refuse(format!("a question of {bytes} bytes is longer than the {MAX_QUESTION} allowed")),
        Ok(question) => match access.admits(&stream).await {
            // Whoever may ask here is one of those who may steer the cluster.
            true => answer(handler, &question, Right::Steer).await,
            false => refuse(access.denial()),
        },
    };
    // A client that is gone or does not read misses its answer.
    let _ = time::timeout(ANSWER_DEADLINE, protocol::write_frame(&mut stream, &content)).await;
}

/// Who may ask.
#[derive(Clone)]
struct Access {
    user: Uid,
    group: Gid,
    user_name: String,
    group_name: String,
}

impl Access {
    fn of(cluster_user: &str, cluster_group: &str) -> Result<Self, ControlError> {
        let unknown = |key, name: &str| ControlError::UnknownAccount { key, name: name.into() };
        let user = User::from_name(cluster_user).ok().flatten().ok_or_else(|| unknown("cluster_user", cluster_user))?;
        let group = Group::from_name(cluster_group).ok().flatten().ok_or_else(|| unknown("cluster_group", cluster_group))?;
        Ok(Self { user: user.uid, group: group.gid, user_name: cluster_user.into(), group_name: cluster_group.into() })
    }

    /// By the kernel's word on the peer; its other groups by the system's user database, which may take its time.
    async fn admits(&self, stream: &UnixStream) -> bool {
        let Ok(peer) = stream.peer_cred() else { return false };
        let (uid, gid) = (Uid::from_raw(peer.uid()), Gid::from_raw(peer.gid()));
        // The daemon's own user, which is not root when it runs without privileges, may ask itself.
        if uid.is_root() || uid == self.user || gid == self.group || uid == Uid::effective() {
            return true;
        }
        let group = self.group;
        let is_member = task::spawn_blocking(move || {
            let Some(user) = User::from_uid(uid).ok().flatten() else { return false };
            let Ok(name) = CString::new(user.name) else { return false };
            getgrouplist(&name, user.gid).is_ok_and(|groups| groups.contains(&group))
        });
        matches!(time::timeout(QUESTION_DEADLINE, is_member).await, Ok(Ok(true)))
    }

    fn denial(&self) -> String {
        format!(
            "permission denied: only root, the user {} and members of the group {} may ask the daemon or give it commands; run this as one of them",
            self.user_name, self.group_name
        )
    }
}

/// The socket's place, held by a lock that the kernel frees with the process.
struct SocketFile {
    path: PathBuf,
    _lock: File,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Nothing is lost when it stays: the next daemon replaces it.
        let _ = fs::remove_file(&self.path);
    }
}

fn lock(path: &Path) -> Result<File, ControlError> {
    let failed = |source| ControlError::File { action: "lock", path: path.into(), source };
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ControlError::AlreadyRunning { lock: path.into() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}
