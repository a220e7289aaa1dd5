//! `drcm watch`: the cluster live on a terminal, with keys to move, stand by, and explain.
//!
//! - [`state`] is what is shown and what keys do to it; pure.
//! - [`page`] draws it; pure.
//! - [`changes`] tells what is different between two reports; pure.
//! - [`screen`] takes the terminal and gives it back, whatever happens.
//!
//! One thread asks the cluster and gives orders, one waits for signals, and this one draws and reads keys.

mod changes;
mod page;
mod screen;
mod state;

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal},
    path::Path,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel},
    thread,
    time::Duration,
};

use jiff::tz::TimeZone;
use ratatui::crossterm::event::{self as terminal, Event, KeyEventKind};

use super::{
    CliError, Exit,
    client::{Client, now},
    events, operate,
    paint::Palette,
};
use crate::model::{self, ClusterReport, EventQuery, Incident, Request};
use screen::Screen;
use state::{State, Step};

/// From one report to the next.
const INTERVAL: Duration = Duration::from_secs(1);
/// From an order to the report after it.
const SETTLE: Duration = Duration::from_millis(250);
/// How soon news, a signal or a new size of the terminal is seen.
const TICK: Duration = Duration::from_millis(100);
/// Orders and news that wait; who is slower than this waits as well.
const WAITING: usize = 4;
/// What happened so many seconds before the start is shown, too; and so many events are asked for at most.
const BEFORE: i64 = 3600;
const EVENTS: u32 = 500;

/// What the other threads say.
enum News {
    Report(Result<Box<ClusterReport>, String>),
    /// How groups came where they run.
    Ways(Vec<Incident>),
    Done(Result<Vec<String>, String>),
    /// A signal: leave.
    Leave,
}

/// Shows the cluster until the operator leaves, or SIGTERM, SIGINT or SIGHUP comes.
///
/// # Errors
/// Standard input and output are no terminal, the configuration cannot be used, or the terminal fails.
pub fn run(file: &Path, nodename: Option<&str>, palette: Palette) -> Result<Exit, CliError> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(CliError::NoTerminal);
    }
    let client = Client::open(file, nodename)?;
    let mut state = State::new(client.config().clone(), TimeZone::system(), palette);
    let (tell, news) = sync_channel(WAITING);
    let (order, orders) = sync_channel(WAITING);
    spawn("signals", signals(tell.clone())?)?;
    spawn("reports", move || worker(&client, &orders, &tell))?;
    let mut screen = Screen::enter().map_err(CliError::Terminal)?;
    let done = watch(&mut screen, &mut state, &news, &order);
    // What went wrong is told on a terminal that can be read.
    drop(screen);
    done.map(|()| Exit::Good)
}

fn watch(screen: &mut Screen, state: &mut State, news: &Receiver<News>, order: &SyncSender<model::Command>) -> Result<(), CliError> {
    let mut changed = true;
    loop {
        loop {
            match news.try_recv() {
                Ok(News::Leave) => return Ok(()),
                Ok(News::Report(Ok(report))) => state.learn(*report),
                Ok(News::Report(Err(fault))) => state.miss(&fault, now()),
                Ok(News::Ways(events)) => events.iter().for_each(|event| state.way(event)),
                Ok(News::Done(done)) => state.told(done, now()),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
            changed = true;
        }
        if changed {
            screen.draw(|frame| page::draw(frame, state)).map_err(CliError::Terminal)?;
        }
        changed = terminal::poll(TICK).map_err(CliError::Terminal)?;
        if !changed {
            continue;
        }
        match terminal::read().map_err(CliError::Terminal)? {
            Event::Key(key) if key.kind != KeyEventKind::Release => match state.press(key) {
                Step::Stay => {}
                Step::Leave => return Ok(()),
                Step::Order(command) => {
                    if order.try_send(command).is_err() {
                        state.told(Err("the orders before this one have not been answered yet: say it again".to_owned()), now());
                    }
                }
            },
            Event::Key(_) | Event::Resize(..) | Event::Mouse(_) | Event::Paste(_) | Event::FocusGained | Event::FocusLost => {}
        }
    }
}

/// Asks once a second, and gives orders as they come. Ends with the screen.
fn worker(client: &Client, orders: &Receiver<model::Command>, tell: &SyncSender<News>) {
    let since_ms = now().saturating_sub(BEFORE).saturating_mul(1000);
    let mut known = BTreeMap::new();
    loop {
        let report = client.report().map(Box::new).map_err(|fault| fault.to_string());
        let answered = report.is_ok();
        if tell.send(News::Report(report)).is_err() {
            return;
        }
        let after = known.iter().map(|(node, number)| (*node, *number)).collect();
        // A daemon that knows of no such question has nothing to say.
        if answered && let Ok(pages) = client.events(&EventQuery { own: false, after, since_ms, newest: EVENTS }) {
            known = events::newest(&known, &pages);
            let mut ways: Vec<Incident> = pages.into_iter().flat_map(|page| page.events).filter(|event| event.timeline.is_some()).collect();
            ways.sort_by_key(|event| event.at_ms);
            if !ways.is_empty() && tell.send(News::Ways(ways)).is_err() {
                return;
            }
        }
        match orders.recv_timeout(INTERVAL) {
            Ok(command) => {
                let done = operate::give(client, &Request::Command(command)).map_err(|fault| fault.to_string());
                if tell.send(News::Done(done)).is_err() {
                    return;
                }
                // What was ordered is soon under way; a report in the midst of it says little.
                thread::sleep(SETTLE);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Waits for the first signal that asks the program to leave.
fn signals(tell: SyncSender<News>) -> Result<impl FnOnce() + Send + 'static, CliError> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)?;
    let (mut terminate, mut hangup, mut interrupt) = {
        let _within = runtime.enter();
        let catch = |kind| signal(kind).map_err(CliError::Runtime);
        (catch(SignalKind::terminate())?, catch(SignalKind::hangup())?, catch(SignalKind::interrupt())?)
    };
    Ok(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        // Nobody listens when the operator was quicker.
        drop(tell.send(News::Leave));
    })
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), CliError> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop).map_err(CliError::Runtime)
}
