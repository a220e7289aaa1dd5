//! Events on their way to one kind of receiver: so many at most, the oldest give way and are counted. Putting one in never waits.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// A bounded queue. Cheap to clone; meant for one reader.
pub(super) struct Outbox<T>(Arc<Shared<T>>);

impl<T> Clone for Outbox<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Shared<T> {
    waiting: Mutex<Waiting<T>>,
    news: Notify,
    limit: usize,
}

struct Waiting<T> {
    items: VecDeque<T>,
    dropped: u64,
}

/// One that was taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken<T> {
    /// It.
    pub(super) item: T,
    /// How many had to give way since the one before it was taken.
    pub(super) dropped: u64,
}

impl<T> Outbox<T> {
    pub(super) fn new(limit: usize) -> Self {
        let waiting = Mutex::new(Waiting { items: VecDeque::new(), dropped: 0 });
        Self(Arc::new(Shared { waiting, news: Notify::new(), limit: limit.max(1) }))
    }

    /// Puts one in; the oldest gives way when there is no room.
    pub(super) fn put(&self, item: T) {
        let mut waiting = self.waiting();
        if waiting.items.len() == self.0.limit {
            waiting.items.pop_front();
            waiting.dropped += 1;
        }
        waiting.items.push_back(item);
        drop(waiting);
        self.0.news.notify_one();
    }

    /// The next one, when there is one. May be cancelled.
    pub(super) async fn take(&self) -> Taken<T> {
        loop {
            let next = {
                let mut waiting = self.waiting();
                let dropped = waiting.dropped;
                let item = waiting.items.pop_front();
                if item.is_some() {
                    waiting.dropped = 0;
                }
                item.map(|item| Taken { item, dropped })
            };
            match next {
                Some(taken) => return taken,
                None => self.0.news.notified().await,
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<T>> {
        // Nothing that holds the lock can panic half-way through a change.
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_give_way_and_are_counted() {
        let outbox = Outbox::new(3);
        (1..=5).for_each(|number| outbox.put(number));
        assert_eq!(outbox.take().await, Taken { item: 3, dropped: 2 });
        assert_eq!(outbox.take().await, Taken { item: 4, dropped: 0 });
        assert_eq!(outbox.take().await, Taken { item: 5, dropped: 0 });
        let later = outbox.clone();
        let reader = tokio::spawn(async move { later.take().await });
        tokio::task::yield_now().await;
        outbox.put(6);
        assert_eq!(reader.await.unwrap(), Taken { item: 6, dropped: 0 });
    }
}
