//! Work that blocks, in the order in which it was asked for.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use tokio::task::spawn_blocking;

/// Who may work on something now. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Turn(Arc<Mutex<()>>);

/// Told when whoever asked for work no longer waits for it.
struct Abandoned(Arc<AtomicBool>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Turn {
    /// Does work on a thread that may block, one after another. Work that nobody waits for any more is not begun: a start
    /// that was cancelled must not be done after the stop that followed it.
    pub async fn take<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (turn, abandoned) = (Arc::clone(&self.0), Arc::new(AtomicBool::new(false)));
        let _waiting = Abandoned(Arc::clone(&abandoned));
        let done = spawn_blocking(move || {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            (!abandoned.load(Ordering::SeqCst)).then(work)
        });
        done.await.expect("the work neither panics nor is it aborted").expect("work is skipped only when nobody waits for it")
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    #[test]
    fn cancelled_work_is_not_begun_and_the_next_waits_for_what_was() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let turn = Turn::default();
            let done = Arc::new(Mutex::new(Vec::new()));
            let note = |what| {
                let done = Arc::clone(&done);
                move || done.lock().unwrap().push(what)
            };
            let (release, released) = mpsc::sync_channel::<()>(1);
            let slow = {
                let (turn, note) = (turn.clone(), note("begun before it was cancelled"));
                async move {
                    turn.take(move || {
                        released.recv().unwrap();
                        note();
                    })
                    .await;
                }
            };
            let moment = Duration::from_millis(50);
            assert!(tokio::time::timeout(moment, slow).await.is_err());
            assert!(tokio::time::timeout(moment, turn.take(note("cancelled while it waited"))).await.is_err());
            release.send(()).unwrap();
            turn.take(note("stop")).await;
            assert_eq!(*done.lock().unwrap(), ["begun before it was cancelled", "stop"]);
        });
    }
}
