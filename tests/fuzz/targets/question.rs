//! The client socket: whatever a client writes, it gets a well-formed answer or none, and the next one is served.

use std::{cell::RefCell, fs, path::Path, process, sync::Arc};

use drcm::{
    control::{Handler, LocalServer, socket_path},
    model::{Request, Response},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    runtime::{Builder, Runtime},
    sync::watch,
};

use super::bytes::Bytes;

/// The first byte says whether the rest is put into a frame; otherwise it is written as it is.
pub fn questions(bytes: &[u8]) {
    thread_local! {
        static SERVER: RefCell<Option<Server>> = const { RefCell::new(None) };
    }
    let mut input = Bytes(bytes);
    let framed = input.truth();
    let asked = serde_json::from_slice::<Request>(input.0);
    if let Ok(response) = serde_json::from_slice::<Response>(input.0) {
        assert_eq!(serde_json::from_slice::<Response>(&serde_json::to_vec(&response).unwrap()).unwrap(), response);
    }
    let length = u32::try_from(input.0.len()).unwrap().to_le_bytes();
    let written = if framed { [&length, input.0].concat() } else { input.0.to_vec() };
    SERVER.with_borrow_mut(|server| {
        let answer = server.get_or_insert_with(Server::new).ask(&written);
        let said = (!answer.is_empty()).then(|| {
            let (length, content) = answer.split_first_chunk::<4>().expect("an answer is a frame");
            assert_eq!(u32::from_le_bytes(*length) as usize, content.len());
            serde_json::from_slice::<Response>(content).expect("an answer is a response")
        });
        if framed && input.0.len() <= drcm::wire::MAX_QUESTION {
            match said.expect("a whole question is answered") {
                Response::Pong => assert!(asked.is_ok(), "something that is no question was answered"),
                Response::Refused(_) => assert!(asked.is_err(), "a question was refused: {asked:?}"),
                other => panic!("{other:?}"),
            }
        }
    });
}

struct Server {
    runtime: Runtime,
    directory: std::path::PathBuf,
    /// Ends the server when it goes.
    _stop: watch::Sender<bool>,
}

impl Server {
    fn new() -> Self {
        let directory = std::env::temp_dir().join(format!("drcm-fuzz-question-{}", process::id()));
        let _ = fs::remove_dir_all(&directory);
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (stop, stopped) = watch::channel(false);
        let handler: Handler = Arc::new(|_| Box::pin(async { Response::Pong }));
        runtime.block_on(async {
            let server = LocalServer::bind(&directory, "root", "root").unwrap();
            drop(tokio::spawn(server.serve(handler, stopped)));
        });
        Self { runtime, directory, _stop: stop }
    }

    /// Everything that comes back for these bytes.
    fn ask(&self, bytes: &[u8]) -> Vec<u8> {
        self.runtime.block_on(exchange(&socket_path(&self.directory), bytes))
    }
}

async fn exchange(socket: &Path, bytes: &[u8]) -> Vec<u8> {
    let (mut reading, mut writing) = UnixStream::connect(socket).await.unwrap().into_split();
    let mut answer = Vec::new();
    let write = async {
        // The server may have heard enough.
        let _ = writing.write_all(bytes).await;
        let _ = writing.shutdown().await;
    };
    let (_, ()) = tokio::join!(reading.read_to_end(&mut answer), write);
    answer
}
