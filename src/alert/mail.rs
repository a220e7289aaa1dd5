//! Mails: what happens within a few seconds is one mail, and after one there is none for `alert_hours`; what happens meanwhile is
//! in the next. One that cannot be sent is tried again, so often at most.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use jiff::tz::TimeZone;
use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    address::Envelope,
    message::{Mailbox, header::ContentType},
    transport::smtp::extension::ClientId,
};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::{info, warn};

use super::{
    Settings, Troubles,
    lists::Receivers,
    outbox::{Outbox, Taken},
    throttle::{Throttle, Turn},
    words,
};
use crate::{config::mail_address, model::Incident, sys::clock};

/// What happens so soon after the first event is in the same mail.
const GATHER: Duration = Duration::from_secs(3);
/// Events that wait for a mail; the oldest give way.
const MOST: usize = 200;
/// For each word of the server, and for one mail to one receiver as a whole.
const REPLY: Duration = Duration::from_secs(10);
const SENDING: Duration = Duration::from_secs(30);
/// Longest wait for `send_alert.sh` to be done with a message of its own.
const TURN: Duration = Duration::from_secs(100);
/// The script may send one meanwhile: how often the time to wait is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// After a failure, doubled each time.
const FIRST_RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_secs(900);
/// Tries, over two hours.
const TRIES: u32 = 16;

/// Events on their way into the next mail.
#[derive(Default)]
struct Pending {
    events: VecDeque<Arc<Incident>>,
    dropped: u64,
}

impl Pending {
    fn add(&mut self, taken: Taken<Arc<Incident>>) {
        self.dropped += taken.dropped;
        if self.events.len() == MOST {
            self.events.pop_front();
            self.dropped += 1;
        }
        self.events.push_back(taken.item);
    }
}

/// Sends mails about events.
pub(super) async fn mail(settings: Arc<Settings>, outbox: Outbox<Arc<Incident>>, troubles: Troubles) {
    let throttle = Throttle::new(&settings.spool_dir, settings.alerts.hours);
    let mut pending = Pending::default();
    loop {
        if pending.events.is_empty() {
            pending.add(outbox.take().await);
        }
        gather(&outbox, &mut pending, GATHER).await;
        let mut tries = 0;
        let mut wait = FIRST_RETRY;
        loop {
            due(&throttle, &outbox, &mut pending).await;
            match send(&settings, &throttle, &pending, &troubles).await {
                Ok(Sent::Yes) => break,
                // It was the turn of somebody else, meanwhile.
                Ok(Sent::NotDue) => continue,
                Err(fault) => {
                    tries += 1;
                    if tries == 1 || tries == TRIES {
                        let next = if tries == TRIES { "it is given up" } else { "it is tried again" };
                        troubles.say(format!("a mail about {} events was not sent, {next}: {fault}", pending.events.len()));
                    }
                    if tries == TRIES {
                        break;
                    }
                    gather(&outbox, &mut pending, wait).await;
                    wait = (wait * 2).min(LONGEST_RETRY);
                }
            }
        }
        pending = Pending::default();
    }
}

/// Takes what comes within this time.
async fn gather(outbox: &Outbox<Arc<Incident>>, pending: &mut Pending, time: Duration) {
    let end = Instant::now() + time;
    loop {
        tokio::select! {
            () = sleep_until(end) => return,
            taken = outbox.take() => pending.add(taken),
        }
    }
}

/// Takes what comes until a mail may be sent.
async fn due(throttle: &Throttle, outbox: &Outbox<Arc<Incident>>, pending: &mut Pending) {
    let mut said = false;
    loop {
        let files = throttle.clone();
        let wait = spawn_blocking(move || files.wait(clock::wall_seconds())).await.unwrap_or_default();
        if wait.is_zero() {
            return;
        }
        if !std::mem::replace(&mut said, true) {
            info!("no mail is sent for another {} min: there was one less than alert_hours ago", wait.as_secs().div_ceil(60));
        }
        gather(outbox, pending, wait.min(LOOK_AGAIN)).await;
    }
}

enum Sent {
    Yes,
    NotDue,
}

async fn send(settings: &Settings, throttle: &Throttle, pending: &Pending, troubles: &Troubles) -> Result<Sent, String> {
    let alerts = &settings.alerts;
    let (email, text, file) = (alerts.email.clone(), alerts.text.clone(), alerts.lists.clone());
    let read = spawn_blocking(move || (Receivers::of(&email, &text, file.as_deref()), TimeZone::system())).await;
    let ((receivers, faults), zone) = read.map_err(|error| error.to_string())?;
    if receivers.is_empty() {
        return Err(if faults.is_empty() {
            "there is nobody to tell: alert_email, alert_text and alert_lists name none".to_owned()
        } else {
            faults.join("; ")
        });
    }
    for fault in faults {
        troubles.say(fault);
    }
    let turn = turn(throttle).await?;
    // The script may have been quicker.
    let files = throttle.clone();
    if !spawn_blocking(move || files.wait(clock::wall_seconds())).await.unwrap_or_default().is_zero() {
        return Ok(Sent::NotDue);
    }
    let sender = Sender::new(settings)?;
    let events: Vec<Arc<Incident>> = pending.events.iter().cloned().collect();
    let node = &settings.node;
    let subject = words::subject(node, &events);
    let body = words::body(node, &events, pending.dropped, alerts.hours, &zone);
    let mut failures = sender.send(&receivers.email, &subject, &body).await;
    failures.extend(sender.send(&receivers.text, &subject, &words::text_message(&events)).await);
    if failures.len() == receivers.email.len() + receivers.text.len() {
        return Err(failures.join("; "));
    }
    for failure in failures {
        troubles.say(format!("a mail was not sent: {failure}"));
    }
    info!("mail sent: {subject}");
    let noted = spawn_blocking(move || turn.sent(clock::wall_seconds())).await.map_err(|error| error.to_string())?;
    if let Err(error) = noted {
        warn!("cannot note in spool_dir that a mail was sent ({error}): the next one may come too soon");
        // Not at once, whatever the files say.
        sleep(LOOK_AGAIN).await;
    }
    Ok(Sent::Yes)
}

async fn turn(throttle: &Throttle) -> Result<Turn, String> {
    let files = throttle.clone();
    let turn = spawn_blocking(move || files.turn(TURN)).await.map_err(|error| error.to_string())?;
    turn.map_err(|error| format!("the files in spool_dir that keep messages apart cannot be used: {error}"))
}

/// Hands mails to the server, one receiver after another: what is wrong with one of them must not keep the others from theirs.
struct Sender {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    server: String,
    from: Address,
}

impl Sender {
    fn new(settings: &Settings) -> Result<Self, String> {
        let relay = &settings.alerts.smtp;
        let from = match &settings.alerts.from {
            Some(from) => mail_address(from),
            None => {
                Address::new("drcm", &settings.hostname).or_else(|_| Address::new("drcm", "localhost")).map_err(|error| error.to_string())
            }
        }?;
        let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&relay.host)
            .port(relay.port)
            .hello_name(ClientId::Domain(settings.hostname.clone()))
            .timeout(Some(REPLY))
            .build();
        Ok(Self { transport, server: format!("{}:{}", relay.host, relay.port), from })
    }

    /// What went wrong, for each that did not get it.
    async fn send(&self, receivers: &[Address], subject: &str, body: &str) -> Vec<String> {
        if receivers.is_empty() {
            return Vec::new();
        }
        let message = match self.message(receivers, subject, body) {
            Ok(message) => message,
            Err(fault) => return receivers.iter().map(|receiver| format!("{receiver}: {fault}")).collect(),
        };
        let mut failures = Vec::new();
        for receiver in receivers {
            let envelope = Envelope::new(Some(self.from.clone()), vec![receiver.clone()]).expect("a receiver is there");
            let sending = timeout(SENDING, self.transport.send_raw(&envelope, &message));
            match sending.await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => failures.push(format!("{receiver} by {}: {}", self.server, whole(&error))),
                Err(_) => failures.push(format!("{receiver} by {}: no answer within {} s", self.server, SENDING.as_secs())),
            }
        }
        failures
    }

    fn message(&self, receivers: &[Address], subject: &str, body: &str) -> Result<Vec<u8>, String> {
        let mut builder = Message::builder().from(Mailbox::new(Some("DRCM cluster".to_owned()), self.from.clone())).subject(subject);
        for receiver in receivers {
            builder = builder.to(Mailbox::new(None, receiver.clone()));
        }
        let message = builder.header(ContentType::TEXT_PLAIN).body(body.to_owned()).map_err(|error| error.to_string())?;
        Ok(message.formatted())
    }
}

/// An error with its causes, each once.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text += &format!(": {said}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{alert::fixture, model::Relay};

    #[test]
    fn a_mail_has_its_headers_and_its_text() {
        let mut settings = fixture::settings(Path::new("/tmp"));
        settings.alerts.from = Some("cluster@example.com".into());
        let sender = Sender::new(&settings).unwrap();
        let to = [mail_address("root").unwrap(), mail_address("b@example.com").unwrap()];
        let message = String::from_utf8(sender.message(&to, "[!ACTION!] ä", "line\n.\nend\n").unwrap()).unwrap();
        for part in [
            "From: \"DRCM cluster\" <cluster@example.com>\r\n",
            "To: root@localhost, b@example.com\r\n",
            "Date: ",
            "Subject: [!ACTION!] =?utf-8?b?",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_named() {
        let mut settings = fixture::settings(Path::new("/tmp"));
        // Nothing listens there.
        settings.alerts.smtp = Relay { host: "127.0.0.1".into(), port: 9 };
        let sender = Sender::new(&settings).unwrap();
        let failures = sender.send(&[mail_address("root").unwrap()], "x", "y").await;
        assert!(failures.len() == 1 && failures[0].starts_with("root@localhost by 127.0.0.1:9: "), "{failures:?}");
        assert!(failures[0].contains("onnection refused"), "{failures:?}");
    }

    #[test]
    fn the_oldest_give_way_to_what_is_new() {
        let mut pending = Pending::default();
        for number in 0..MOST as u64 + 2 {
            let item = Arc::new(Incident { number, ..fixture::failover() });
            pending.add(Taken { item, dropped: 1 });
        }
        assert_eq!((pending.events.len(), pending.events[0].number, pending.dropped), (MOST, 2, MOST as u64 + 4));
    }
}
