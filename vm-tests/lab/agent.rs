//! Talks with the guest agent of one machine over its serial port: runs shell text there.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use drcm::lab::Spoken;
use serde_json::{Value, json};

/// Longest for one answer of an agent that is well. An emulated machine that also boots is slow.
const ANSWER: Duration = Duration::from_secs(20);

/// The near end of the port.
pub struct Agent {
    path: PathBuf,
    stream: Option<UnixStream>,
    /// Read, and not yet a whole line.
    rest: Vec<u8>,
    number: u64,
}

impl Agent {
    pub fn new(path: PathBuf) -> Self {
        Self { path, stream: None, rest: Vec::new(), number: 0 }
    }

    /// Whether it answers within this time: the machine has come that far, and an earlier conversation is behind us.
    pub fn answers(&mut self, limit: Duration) -> bool {
        if self.stream.is_none() {
            self.stream = UnixStream::connect(&self.path).ok();
        }
        let Some(stream) = &mut self.stream else { return false };
        self.number += 1;
        // 0xff ends whatever half of a question is in the way, and stands before the answer.
        let question = json!({"execute": "guest-sync-delimited", "arguments": {"id": self.number}});
        if stream.write_all(&[&[0xff], question.to_string().as_bytes(), b"\n"].concat()).is_err() {
            self.stream = None;
            return false;
        }
        self.rest.clear();
        let end = Instant::now() + limit;
        while let Some(line) = self.line(end) {
            // What is before it are answers to somebody who did not wait for them.
            let line = line.rsplit(|byte| *byte == 0xff).next().unwrap_or_default().to_vec();
            if serde_json::from_slice::<Value>(&line).is_ok_and(|answer| answer["return"] == self.number) {
                return true;
            }
        }
        false
    }

    /// Starts shell text, and gives its process id there; none when the agent does not answer.
    pub fn start(&mut self, text: &str) -> Option<i64> {
        let arguments = json!({
            "path": "/bin/sh",
            "arg": ["-c", format!("exec 2>&1; {text}")],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/root"],
            "capture-output": true,
        });
        self.ask("guest-exec", &arguments)?["pid"].as_i64()
    }

    /// What came of it, when it has ended; none within, when it runs on.
    pub fn ended(&mut self, pid: i64) -> Option<Option<Spoken>> {
        let status = self.ask("guest-exec-status", &json!({"pid": pid}))?;
        if status["exited"] != true {
            return Some(None);
        }
        let text = status["out-data"].as_str().and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
        let code = status["exitcode"].as_i64().and_then(|code| i32::try_from(code).ok());
        Some(Some(Spoken { code, text: String::from_utf8_lossy(&text).into_owned() }))
    }

    /// One question and its answer.
    fn ask(&mut self, command: &str, arguments: &Value) -> Option<Value> {
        let question = json!({"execute": command, "arguments": arguments});
        self.stream.as_mut()?.write_all(format!("{question}\n").as_bytes()).ok()?;
        let line = self.line(Instant::now() + ANSWER)?;
        let mut answer: Value = serde_json::from_slice(&line).ok()?;
        answer.get("return")?;
        Some(answer["return"].take())
    }

    /// The next line, when it comes before `end`.
    fn line(&mut self, end: Instant) -> Option<Vec<u8>> {
        loop {
            if let Some(length) = self.rest.iter().position(|byte| *byte == b'\n') {
                let rest = self.rest.split_off(length + 1);
                let mut line = std::mem::replace(&mut self.rest, rest);
                line.pop();
                return Some(line);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let stream = self.stream.as_mut()?;
            stream.set_read_timeout(Some(left)).ok()?;
            let mut bytes = [0; 65_536];
            match stream.read(&mut bytes) {
                Ok(0) => {
                    self.stream = None;
                    return None;
                }
                Ok(length) => self.rest.extend_from_slice(&bytes[..length]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
                Err(_) => {
                    self.stream = None;
                    return None;
                }
            }
        }
    }
}

/// Tries until it holds, with a pause between.
pub fn until(limit: Duration, pause: Duration, mut condition: impl FnMut() -> bool) -> Option<Duration> {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > limit {
            return None;
        }
        thread::sleep(pause);
    }
    Some(start.elapsed())
}
