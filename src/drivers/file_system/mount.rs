//! Mounting: what each kind of source needs of mount(2).

use std::{ffi::CString, fs, net::SocketAddr, path::Path, time::Duration};

use nix::{errno::Errno, mount::MsFlags};
use tokio::{
    net::TcpStream,
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

use super::{
    FileSystems, Wanted, c_path,
    cifs::{self, Share},
    credentials::{self, Credentials},
    device,
    error::{MountError, kind_of},
    nfs,
    options::value_of,
    resolve::resolve,
    table::Mount,
};
use crate::{
    model::MountSource,
    sys::{
        child::{self, Program},
        errand::{Errand, ErrandError, Secret},
        process,
    },
};

/// Longest wait for the name of a server.
const RESOLVE: Duration = Duration::from_secs(10);
/// Starts what keeps the locks of NFS 3; comes with the NFS tools of every distribution.
const START_STATD: &str = "/usr/sbin/start-statd";
/// Longest time that takes: it may be a job of systemd, behind others of a boot.
const STATD: Duration = Duration::from_secs(30);

/// Where NFS servers listen.
const NFS_PORT: u16 = 2049;
/// Where CIFS servers listen.
const CIFS_PORT: u16 = 445;

/// One call of mount(2).
struct Call<'c> {
    source: &'c str,
    kind: &'c str,
    flags: MsFlags,
    data: Secret,
}

impl FileSystems {
    /// Mounts it where nothing is mounted.
    pub(super) async fn mount(&self, wanted: &Wanted, deadline: Instant) -> Result<(), MountError> {
        self.make_directory(wanted, deadline).await?;
        let flags = wanted.options.flags.0;
        match &wanted.source {
            MountSource::Nfs { host, .. } => {
                let server = resolve(host, RESOLVE.min(left(deadline))).await?;
                self.mount_nfs(wanted, server, deadline).await
            }
            MountSource::Share { host, .. } => {
                let data = self.share_data(wanted, host, deadline).await?;
                self.call_once(wanted, Call { source: &wanted.text, kind: "cifs", flags, data }, deadline).await
            }
            MountSource::Device(path) => self.mount_device(wanted, path, deadline).await,
            MountSource::Tag { directory, name } => self.mount_device(wanted, &device::of_tag(directory, name), deadline).await,
            MountSource::Memory => {
                let data = plain_data(wanted)?;
                self.call_once(wanted, Call { source: "tmpfs", kind: "tmpfs", flags, data }, deadline).await
            }
            MountSource::Directory(directory) => self.bind(wanted, directory, deadline).await,
        }
    }

    /// Tells a mount its options once more, which brings some back to life. Its server may hold this up: for at most `limit`.
    pub(super) async fn remount(&self, wanted: &Wanted, mount: &Mount, limit: Duration) -> Result<(), MountError> {
        let deadline = Instant::now() + limit;
        let data = match &wanted.source {
            MountSource::Nfs { host, .. } => {
                let server = resolve(host, left(deadline)).await?;
                let attempt = nfs::attempts(&wanted.options.words, server).into_iter().next();
                secret(attempt.map_or_else(String::new, |attempt| attempt.data))?
            }
            MountSource::Share { host, .. } => self.share_data(wanted, host, deadline).await?,
            MountSource::Device(_) | MountSource::Tag { .. } | MountSource::Memory => plain_data(wanted)?,
            MountSource::Directory(_) => secret(String::new())?,
        };
        let flags = wanted.options.flags.0 | MsFlags::MS_REMOUNT;
        self.call_once(wanted, Call { source: &mount.source, kind: &mount.kind, flags, data }, deadline).await
    }

    /// What of a mount can be tried without one.
    pub(super) async fn could_mount(&self, wanted: &Wanted, deadline: Instant) -> Result<(), MountError> {
        match &wanted.source {
            MountSource::Nfs { host, .. } => {
                let server = resolve(host, RESOLVE.min(left(deadline))).await?;
                answers(host, server, port(wanted, NFS_PORT), deadline).await
            }
            MountSource::Share { host, .. } => {
                self.share_data(wanted, host, deadline).await?;
                let server = resolve(host, RESOLVE.min(left(deadline))).await?;
                answers(host, server, port(wanted, CIFS_PORT), deadline).await
            }
            MountSource::Device(path) => device::find(path).map(drop),
            MountSource::Tag { directory, name } => device::find(&device::of_tag(directory, name)).map(drop),
            MountSource::Memory => Ok(()),
            MountSource::Directory(directory) => {
                let errand = Errand::Resolve { path: c_path(directory)? };
                let sent = self.errands.send(directory, errand, left(deadline)).await;
                sent.map(drop).map_err(|why| MountError::Errand { doing: "find", path: directory.clone(), why })
            }
        }
    }

    /// Makes the mount point where it is missing, and warns when it hides something.
    async fn make_directory(&self, wanted: &Wanted, deadline: Instant) -> Result<(), MountError> {
        let mut path: Vec<&Path> = wanted.target.ancestors().filter(|path| path.parent().is_some()).collect();
        path.reverse();
        let path = path.into_iter().map(c_path).collect::<Result<Vec<CString>, _>>()?;
        let sent = self.errands.send(&wanted.target, Errand::MakeDirectories { path }, left(deadline)).await;
        let answer = sent.map_err(|why| MountError::Errand { doing: "make the directory", path: wanted.target.clone(), why })?;
        if answer.first() == Some(&1) {
            self.warn(&format!("{}: {} is not empty; what is in it is hidden by the mount", wanted.title, wanted.target.display()));
        }
        Ok(())
    }

    async fn mount_nfs(&self, wanted: &Wanted, server: SocketAddr, deadline: Instant) -> Result<(), MountError> {
        let words = &wanted.options.words;
        let attempts = nfs::attempts(words, server);
        let mut tries = Vec::new();
        for (position, attempt) in attempts.iter().enumerate() {
            if nfs::needs_statd(&attempt.version, words) && !self.statd_runs(deadline).await {
                if tries.is_empty() {
                    return Err(MountError::NoStatd { server: server.ip() });
                }
                // The answers to the versions before say more.
                break;
            }
            let data = secret(attempt.data.clone())?;
            let flags = wanted.options.flags.0;
            let call = Call { source: &wanted.text, kind: "nfs", flags, data };
            match self.call(wanted, call, deadline).await? {
                Ok(()) => return Ok(()),
                Err(errno) => {
                    tries.push((format!("NFS {}: ", attempt.version), errno));
                    let next = attempts.get(position + 1);
                    if !next.is_some_and(|next| nfs::try_next(errno, &next.version)) {
                        break;
                    }
                }
            }
        }
        Err(refused(wanted, "nfs", tries))
    }

    /// Whether the program that keeps the locks of NFS 3 runs; it is started when it does not.
    async fn statd_runs(&self, deadline: Instant) -> bool {
        let runs = || async {
            let look =
                || process::all().is_ok_and(|all| all.into_iter().filter_map(process::found).any(|found| found.command == "rpc.statd"));
            spawn_blocking(look).await.unwrap_or(false)
        };
        if runs().await {
            return true;
        }
        if !child::is_executable(Path::new(START_STATD)) {
            return false;
        }
        let program = Program {
            program: START_STATD.into(),
            arguments: Vec::new(),
            environment: child::root_environment(),
            identity: None,
            umask: self.settings.umask,
            output: self.log.clone(),
            title: "start-statd".into(),
        };
        drop(program.run(STATD.min(left(deadline))).await);
        runs().await
    }

    async fn share_data(&self, wanted: &Wanted, host: &str, deadline: Instant) -> Result<Secret, MountError> {
        let MountSource::Share { share, directory, .. } = &wanted.source else {
            return Err(MountError::Source { text: wanted.text.clone(), help: "a share is written //host/share" });
        };
        let server = resolve(host, RESOLVE.min(left(deadline))).await?;
        let (auth_dir, run_dir) = (self.settings.auth_dir.clone(), self.settings.run_dir.clone());
        let (host, share, directory) = (host.to_owned(), share.clone(), directory.clone());
        let words = wanted.options.words.clone();
        let title = wanted.title.clone();
        let work = move || {
            let credentials = if cifs::is_anonymous(&words) { None } else { Some(credentials_of(&auth_dir, &host)?) };
            if let Some(credentials) = &credentials
                && let Err(error) = credentials::note_age(&auth_dir, &run_dir, &host, credentials.password_age)
            {
                tracing::warn!("{title}: cannot note the age of the password for {host}: {error}");
            }
            cifs::data(Share { host: &host, share: &share, directory: &directory }, server, credentials.as_ref(), &words)
        };
        spawn_blocking(work).await.expect("the work neither panics nor is it aborted")
    }

    async fn mount_device(&self, wanted: &Wanted, path: &Path, deadline: Instant) -> Result<(), MountError> {
        let found = device::find(path)?;
        let name = found.path.to_string_lossy().into_owned();
        let read = self.errands.send(&found.path, Errand::ReadSuperblock { device: c_path(&found.path)? }, left(deadline)).await;
        let pieces = read.map_err(|why| MountError::Errand { doing: "read", path: found.path.clone(), why })?;
        let flags = wanted.options.flags.0;
        if let Some(kind) = device::type_in(&pieces) {
            let call = Call { source: &name, kind, flags, data: plain_data(wanted)? };
            return self.call_once(wanted, call, deadline).await;
        }
        let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        let mut tried = Vec::new();
        for kind in device::known_types(&known) {
            let call = Call { source: &name, kind: &kind, flags: flags | MsFlags::MS_SILENT, data: plain_data(wanted)? };
            match self.call(wanted, call, deadline).await? {
                Ok(()) => return Ok(()),
                Err(Errno::EINVAL | Errno::ENODEV | Errno::EIO) => tried.push(kind),
                Err(errno) => return Err(refused(wanted, &kind, vec![(String::new(), errno)])),
            }
        }
        Err(MountError::UnknownType { device: found.path, tried })
    }

    /// The kernel takes the flags of another view only once it is there.
    async fn bind(&self, wanted: &Wanted, directory: &Path, deadline: Instant) -> Result<(), MountError> {
        let asked = wanted.options.flags.0;
        let source = directory.to_string_lossy();
        let bind = asked & (MsFlags::MS_BIND | MsFlags::MS_REC);
        self.call_once(wanted, Call { source: &source, kind: "none", flags: bind, data: secret(String::new())? }, deadline).await?;
        let further = asked - bind;
        if further.is_empty() {
            return Ok(());
        }
        let flags = further | MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
        self.call_once(wanted, Call { source: &source, kind: "none", flags, data: secret(String::new())? }, deadline).await
    }

    async fn call_once(&self, wanted: &Wanted, call: Call<'_>, deadline: Instant) -> Result<(), MountError> {
        let kind = call.kind.to_owned();
        self.call(wanted, call, deadline).await?.map_err(|errno| refused(wanted, &kind, vec![(String::new(), errno)]))
    }

    /// The kernel's answer; an error when there is none.
    async fn call(&self, wanted: &Wanted, call: Call<'_>, deadline: Instant) -> Result<Result<(), Errno>, MountError> {
        if call.data.length() > cifs::LONGEST_DATA {
            return Err(MountError::TooLong);
        }
        let errand = Errand::Mount {
            source: c_path(Path::new(call.source))?,
            target: c_path(&wanted.target)?,
            kind: c_path(Path::new(call.kind))?,
            flags: call.flags,
            data: call.data,
        };
        match self.errands.send(&wanted.target, errand, left(deadline)).await {
            Ok(_) => Ok(Ok(())),
            Err(ErrandError::Refused(errno)) => Ok(Err(errno)),
            Err(why) => Err(MountError::Errand { doing: "mount on", path: wanted.target.clone(), why }),
        }
    }
}

/// The port that the mount options name, or the usual one.
fn port(wanted: &Wanted, usual: u16) -> u16 {
    value_of(&wanted.options.words, &["port"]).and_then(|port| port.parse().ok()).unwrap_or(usual)
}

/// Whether somebody listens there.
async fn answers(host: &str, server: SocketAddr, port: u16, deadline: Instant) -> Result<(), MountError> {
    let address = SocketAddr::new(server.ip(), port);
    let why = match timeout_at(deadline, TcpStream::connect(address)).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer in time".to_owned(),
    };
    Err(MountError::NoServer { host: host.to_owned(), address, why })
}

fn credentials_of(auth_dir: &Path, host: &str) -> Result<Credentials, MountError> {
    let credentials = credentials::read(auth_dir, host)?;
    if credentials.username.is_empty() {
        let why = "it has no username; fill it in, or use the mount option guest".to_owned();
        return Err(MountError::Credentials { path: auth_dir.join(host), why });
    }
    Ok(credentials)
}

fn refused(wanted: &Wanted, kind: &str, tries: Vec<(String, Errno)>) -> MountError {
    let kind = if kind == "none" { kind_of(&wanted.source) } else { kind };
    MountError::Refused { source_text: wanted.text.clone(), target: wanted.target.clone(), kind: kind.to_owned(), tries }
}

/// The words as they are.
fn plain_data(wanted: &Wanted) -> Result<Secret, MountError> {
    secret(wanted.options.words.join(","))
}

fn secret(text: String) -> Result<Secret, MountError> {
    Secret::new(text.into_bytes()).ok_or_else(|| MountError::Option { word: "options".into(), why: "they hold a zero byte; remove it" })
}

/// At least a moment, so that the last step gets a chance.
pub(super) fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(100))
}
