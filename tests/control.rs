//! Clients and servers over real sockets: the right ones are answered, the wrong ones cost nothing.

use std::{
    env, fs,
    io::{Read, Write},
    net::SocketAddr,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::{UnixListener, UnixStream},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{self, Command},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use drcm::{
    control::{ControlError, Handler, LocalServer, MAX_CLIENTS, RemoteServer, blocking, client, socket_path},
    model::{self, NodeId, Request, Response},
    wire::{HELLO_LENGTH, Opening},
};
use futures_util::future::join_all;
use nix::unistd::{Group, Uid, User};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::watch,
    task::JoinHandle,
    time,
};

const KEY: &[u8] = b"two kilobytes of /dev/urandom";
const SECOND: Duration = Duration::from_secs(1);
/// Longer than all deadlines of one client together.
const PATIENCE: Duration = Duration::from_secs(8);

/// A directory that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let path = env::temp_dir().join(format!("drcm-control-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Both servers in one directory, until dropped.
struct Daemon {
    run_dir: Directory,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    tasks: [JoinHandle<()>; 2],
}

impl Daemon {
    async fn start() -> Self {
        Self::with(Directory::new(), handler()).await
    }

    async fn with(run_dir: Directory, handler: Handler) -> Self {
        let (stop, stopped) = watch::channel(false);
        let local = bind(&run_dir.0).unwrap();
        let remote = RemoteServer::bind("127.0.0.1:0".parse().unwrap(), KEY).await.unwrap();
        let address = remote.address().unwrap();
        let tasks = [tokio::spawn(local.serve(handler.clone(), stopped.clone())), tokio::spawn(remote.serve(handler, stopped))];
        Self { run_dir, address, stop, tasks }
    }

    fn socket(&self) -> PathBuf {
        socket_path(&self.run_dir.0)
    }

    async fn local(&self, request: &Request) -> Result<Response, ControlError> {
        client::ask_local(&self.run_dir.0, request, PATIENCE).await
    }

    async fn remote(&self, request: &Request) -> Result<Response, ControlError> {
        client::ask_remote(self.address, KEY.into(), request, PATIENCE).await
    }

    /// Every honest client still gets its answer.
    async fn assert_well(&self) {
        assert_eq!(self.local(&Request::Ping).await.unwrap(), Response::Pong);
        assert_eq!(self.remote(&Request::Ping).await.unwrap(), Response::Pong);
    }
}

fn bind(run_dir: &Path) -> Result<LocalServer, ControlError> {
    let user = User::from_uid(Uid::effective()).unwrap().unwrap();
    let group = Group::from_gid(user.gid).unwrap().unwrap();
    LocalServer::bind(run_dir, &user.name, &group.name)
}

/// Pings at once, pings nodes by repeating them, answers `Node` with three megabytes and `Cluster` with too many.
fn handler() -> Handler {
    Arc::new(|request| {
        Box::pin(async move {
            match request {
                Request::Ping => Response::Pong,
                Request::PingNodes(nodes) => Response::Pings(nodes.into_iter().map(|node| (node, Some(7))).collect()),
                Request::Node | Request::Outline => Response::Refused("x".repeat(3 << 20)),
                Request::Cluster | Request::Drill | Request::DrillAll => Response::Refused("x".repeat(5 << 20)),
                Request::Command(command) => Response::Accepted(vec![format!("{command:?}")]),
                Request::ConfirmVoters | Request::Reload | Request::Apply(_) => Response::Accepted(Vec::new()),
                Request::Events(_) => Response::Events(Vec::new()),
            }
        })
    })
}

fn nodes(count: u64) -> Request {
    Request::PingNodes((0..count).map(NodeId).collect())
}

fn pings(count: u64) -> Response {
    Response::Pings((0..count).map(|node| (NodeId(node), Some(7))).collect())
}

/// A listener whose queue is full: connecting to it never ends, as with a dead machine.
async fn dead_address() -> (SocketAddr, impl Sized) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) = time::timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
        waiting.push(stream);
    }
    (address, (listener, waiting))
}

#[tokio::test]
async fn commands_are_taken_on_the_client_socket_only() {
    let daemon = Daemon::start().await;
    let command = Request::Command(model::Command::Maintenance { on: true });
    assert_eq!(daemon.local(&command).await.unwrap(), Response::Accepted(vec!["Maintenance { on: true }".into()]));
    match daemon.remote(&command).await.unwrap() {
        Response::Refused(why) => assert!(why.contains("give the command on a node"), "{why}"),
        other => panic!("{other:?}"),
    }
    daemon.assert_well().await;
}

#[tokio::test]
async fn questions_are_answered_on_both_ways() {
    let daemon = Daemon::start().await;
    daemon.assert_well().await;
    assert_eq!(daemon.local(&nodes(500)).await.unwrap(), pings(500));
    assert_eq!(daemon.remote(&nodes(500)).await.unwrap(), pings(500));
    for answer in [daemon.local(&Request::Node).await.unwrap(), daemon.remote(&Request::Node).await.unwrap()] {
        assert_eq!(answer, Response::Refused("x".repeat(3 << 20)));
    }
    for answer in [daemon.local(&Request::Cluster).await.unwrap(), daemon.remote(&Request::Cluster).await.unwrap()] {
        assert!(matches!(&answer, Response::Refused(sentence) if sentence.contains("more than the 4194304")), "{answer:?}");
    }
}

#[test]
fn the_blocking_client_gets_the_same_answers() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let daemon = runtime.block_on(Daemon::start());
    assert_eq!(blocking::ask_local(&daemon.run_dir.0, &nodes(3), PATIENCE).unwrap(), pings(3));
    assert_eq!(blocking::ask_remote(daemon.address, KEY.into(), &nodes(3), PATIENCE).unwrap(), pings(3));
    assert_eq!(blocking::ask_any(&[daemon.address], KEY.into(), &nodes(3), PATIENCE).unwrap(), (daemon.address, pings(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_clients_at_once_are_all_answered() {
    let daemon = Daemon::start().await;
    let local = join_all((0..100).map(|count| {
        let daemon = &daemon;
        async move { (daemon.local(&nodes(count)).await, count) }
    }));
    let remote = join_all((0..100).map(|count| {
        let daemon = &daemon;
        async move { (daemon.remote(&nodes(count)).await, count) }
    }));
    for (answer, count) in local.await.into_iter().chain(remote.await) {
        assert_eq!(answer.unwrap(), pings(count));
    }
}

#[tokio::test]
async fn clients_that_say_nothing_or_little_lose_their_place() {
    let daemon = Daemon::start().await;
    let mut idle = Vec::new();
    let mut idle_remote = Vec::new();
    for number in 0..MAX_CLIENTS {
        let mut local = UnixStream::connect(daemon.socket()).unwrap();
        local.write_all(&[9, 0, 0, 0, b'"'][..number % 6]).unwrap();
        idle.push(local);
        let mut remote = TcpStream::connect(daemon.address).await.unwrap();
        remote.write_all(&b"DRCM"[..number % 5]).await.unwrap();
        idle_remote.push(remote);
    }
    let began = Instant::now();
    daemon.assert_well().await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    for mut stream in idle_remote {
        assert_eq!(stream.read(&mut [0; 9]).await.unwrap_or(0), 0, "nothing is said to the silent");
    }
}

#[tokio::test]
async fn clients_that_do_not_read_lose_their_answer() {
    let daemon = Daemon::start().await;
    let question = serde_json::to_vec(&Request::Node).unwrap();
    let mut deaf = Vec::new();
    for _ in 0..MAX_CLIENTS {
        let mut stream = UnixStream::connect(daemon.socket()).unwrap();
        stream.write_all(&u32::try_from(question.len()).unwrap().to_le_bytes()).unwrap();
        stream.write_all(&question).unwrap();
        deaf.push(stream);
    }
    let began = Instant::now();
    daemon.assert_well().await;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    time::sleep(SECOND).await;
    let mut rest = Vec::new();
    let _ = deaf[0].read_to_end(&mut rest);
    assert!(rest.len() < 3 << 20, "the answer was cut");
}

#[tokio::test]
async fn too_long_and_senseless_questions_are_refused_on_the_client_socket() {
    let daemon = Daemon::start().await;
    for (frame, words) in [
        (&b"\xff\xff\xff\xff"[..], "is longer than"),
        (b"\x01\x00\x08\x00", "is longer than"),
        (b"\x04\x00\x00\x00\x00\xff\x80\x00", "does not know this question"),
        (b"\x06\x00\x00\x00\"Sing\"", "does not know this question"),
        (b"\x00\x00\x00\x00", "does not know this question"),
    ] {
        let socket = daemon.socket();
        let answer = tokio::task::spawn_blocking(move || {
            let mut stream = UnixStream::connect(socket).unwrap();
            stream.write_all(frame).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            answer
        });
        let answer: Response = serde_json::from_slice(&answer.await.unwrap()[4..]).unwrap();
        assert!(matches!(&answer, Response::Refused(sentence) if sentence.contains(words)), "{answer:?}");
    }
    daemon.assert_well().await;
}

#[tokio::test]
async fn without_the_authkey_not_a_byte_comes_back() {
    let daemon = Daemon::start().await;
    let (_, wrong_key) = Opening::new(b"another key", [1; 32]);
    let garbage = [0x5a; 4096];
    for sent in [&wrong_key[..], &garbage, b"GET / HTTP/1.0\r\n\r\n", &wrong_key[..HELLO_LENGTH - 1]] {
        let mut stream = TcpStream::connect(daemon.address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let mut answer = Vec::new();
        let _ = time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the connection is closed soon");
        assert!(answer.is_empty());
    }
    let error = client::ask_remote(daemon.address, b"another key"[..].into(), &Request::Ping, SECOND).await.unwrap_err();
    assert!(matches!(error, ControlError::Closed { .. }) && error.to_string().contains("authkey"), "{error}");
    daemon.assert_well().await;
}

#[tokio::test]
async fn a_holder_of_the_key_that_breaks_the_rules_is_dropped() {
    let daemon = Daemon::start().await;
    for frame in [
        &u32::MAX.to_le_bytes()[..],
        &70_000_u32.to_le_bytes(),
        &[20, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20],
    ] {
        let (opening, hello) = Opening::new(KEY, [2; 32]);
        let mut stream = TcpStream::connect(daemon.address).await.unwrap();
        stream.write_all(&hello).await.unwrap();
        let mut answer = [0; HELLO_LENGTH];
        stream.read_exact(&mut answer).await.unwrap();
        opening.finish(&answer).unwrap();
        stream.write_all(frame).await.unwrap();
        let mut rest = Vec::new();
        let _ = time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the connection is closed soon");
        assert!(rest.is_empty());
    }
    daemon.assert_well().await;
}

#[tokio::test]
async fn dead_nodes_cost_no_more_than_the_timeout_and_nothing_when_another_answers() {
    let daemon = Daemon::start().await;
    let (dead, _hold) = dead_address().await;
    let refusing: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let timeout = Duration::from_millis(700);

    let began = Instant::now();
    let error = client::ask_remote(dead, KEY.into(), &Request::Ping, timeout).await.unwrap_err();
    assert!(matches!(error, ControlError::TimedOut { .. }), "{error}");
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());

    let began = Instant::now();
    let answer = client::ask_any(&[dead, dead, refusing, daemon.address], KEY.into(), &Request::Ping, timeout).await.unwrap();
    assert_eq!(answer, (daemon.address, Response::Pong));
    assert!(began.elapsed() < timeout, "{:?}", began.elapsed());

    let began = Instant::now();
    let error = client::ask_any(&[dead, refusing, dead], KEY.into(), &Request::Ping, timeout).await.unwrap_err();
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    let ControlError::NobodyAnswered { failures } = &error else { panic!("{error}") };
    assert_eq!(failures.len(), 3);
    assert!(error.to_string().contains("127.0.0.1:1") && error.to_string().contains("within 700 ms"), "{error}");
    let error = client::ask_any(&[], KEY.into(), &Request::Ping, timeout).await.unwrap_err();
    assert_eq!(error.to_string(), "no node answered: there is nobody to ask");
}

#[tokio::test]
async fn a_refusal_is_passed_on_only_when_there_is_no_better_answer() {
    let refusing = Daemon::with(Directory::new(), Arc::new(|_| Box::pin(async { Response::Refused("not I".into()) }))).await;
    let good = Daemon::start().await;
    let ask = async |addresses: &[SocketAddr]| client::ask_any(addresses, KEY.into(), &Request::Ping, SECOND).await.unwrap().1;
    assert_eq!(ask(&[refusing.address, good.address]).await, Response::Pong);
    assert_eq!(ask(&[refusing.address, "127.0.0.1:1".parse().unwrap()]).await, Response::Refused("not I".into()));
}

#[tokio::test]
async fn the_client_says_what_is_wrong_with_the_daemon() {
    let run_dir = Directory::new();
    let ask = async || client::ask_local(&run_dir.0, &Request::Ping, Duration::from_millis(300)).await.unwrap_err();

    let error = ask().await;
    assert!(matches!(error, ControlError::NotRunning { .. }) && error.to_string().contains("systemctl start drcm_server"), "{error}");

    // A daemon that is stopped or hangs.
    let listener = UnixListener::bind(socket_path(&run_dir.0)).unwrap();
    let error = ask().await;
    assert!(matches!(error, ControlError::TimedOut { .. }), "{error}");

    // A socket that a dead daemon left.
    drop(listener);
    assert!(matches!(ask().await, ControlError::NotRunning { .. }));

    // A daemon of another kind.
    for (answer, is_expected) in [
        (&b"\x04\x00\x00\x00\"42\""[..], (|error| matches!(error, ControlError::Protocol { .. })) as fn(&ControlError) -> bool),
        (b"HTTP/1.0 400 Bad Request\r\n\r\n", |error| matches!(error, ControlError::Protocol { .. })),
        (b"\x04\x00", |error| matches!(error, ControlError::Closed { .. })),
        (b"", |error| matches!(error, ControlError::Closed { .. })),
    ] {
        fs::remove_file(socket_path(&run_dir.0)).unwrap();
        let listener = UnixListener::bind(socket_path(&run_dir.0)).unwrap();
        let fake = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 10]).unwrap();
            stream.write_all(answer).unwrap();
        });
        let error = ask().await;
        assert!(is_expected(&error), "{error:?}");
        fake.join().unwrap();
    }
}

#[tokio::test]
async fn the_socket_replaces_a_stale_one_has_the_right_mode_and_goes_with_the_daemon() {
    let run_dir = Directory::new();
    drop(UnixListener::bind(socket_path(&run_dir.0)).unwrap());
    let daemon = Daemon::with(run_dir, handler()).await;
    let metadata = fs::symlink_metadata(daemon.socket()).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.mode() & 0o7777, 0o660);
    daemon.assert_well().await;

    let second = bind(&daemon.run_dir.0).err().unwrap();
    assert!(matches!(second, ControlError::AlreadyRunning { .. }), "{second}");
    daemon.assert_well().await;

    daemon.stop.send(true).unwrap();
    let Daemon { run_dir, tasks, .. } = daemon;
    for task in tasks {
        time::timeout(SECOND, task).await.unwrap().unwrap();
    }
    assert!(!socket_path(&run_dir.0).exists());
    Daemon::with(run_dir, handler()).await.assert_well().await;
}

#[tokio::test]
async fn what_is_not_a_socket_is_left_alone_and_unknown_accounts_are_named() {
    let run_dir = Directory::new();
    fs::write(socket_path(&run_dir.0), "precious").unwrap();
    assert!(matches!(bind(&run_dir.0), Err(ControlError::NotASocket { .. })));
    assert_eq!(fs::read(socket_path(&run_dir.0)).unwrap(), b"precious");
    let error = LocalServer::bind(&run_dir.0, "no_such_user_here", "root").err().unwrap();
    assert!(error.to_string().starts_with("cluster_user = no_such_user_here"), "{error}");
    let missing = run_dir.0.join("deep/run");
    drop(bind(&missing).unwrap());
    assert!(!socket_path(&missing).exists());
}

/// Names the directory that [`asks_as_somebody_else`] is to ask in; set only when this program starts itself for that.
const ASK_IN: &str = "DRCM_TEST_ASK_IN";

/// Not a test by itself: the other end of [`other_users_are_denied_by_the_mode_and_by_their_credentials`].
#[test]
fn asks_as_somebody_else() {
    if let Some(run_dir) = env::var_os(ASK_IN) {
        println!("answer: {:?}", blocking::ask_local(Path::new(&run_dir), &Request::Ping, PATIENCE));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_users_are_denied_by_the_mode_and_by_their_credentials() {
    if !Uid::effective().is_root() {
        eprintln!("only root can ask as somebody else: nothing tested");
        return;
    }
    let daemon = Daemon::start().await;
    // Where that user can read it, whatever the modes above the build directory are.
    let program = daemon.run_dir.0.join("ask");
    fs::copy(env::current_exe().unwrap(), &program).unwrap();
    let ask_as = |uid: u32, gid: u32| {
        let mut command = Command::new(&program);
        command.args(["--exact", "asks_as_somebody_else", "--nocapture"]).env(ASK_IN, &daemon.run_dir.0).uid(uid).gid(gid);
        let output = command.output().unwrap();
        String::from_utf8_lossy(&output.stdout).lines().find(|line| line.contains("answer: ")).unwrap_or_default().to_owned()
    };
    let answer = ask_as(65_534, 65_534);
    assert!(answer.contains("Err(Denied"), "{answer}");
    let answer = ask_as(65_534, 0);
    assert!(answer.contains("Ok(Pong)"), "{answer}");
    fs::set_permissions(daemon.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    let answer = ask_as(65_534, 65_534);
    assert!(answer.contains("Ok(Refused(\"permission denied: only root"), "{answer}");
    daemon.assert_well().await;
}
