//! Links by TCP, for nodes that are far away: what is sent arrives in order or not at all. A lost packet is a stall of all that
//! follows; a broken connection loses what is under way, and what is said until there is a new one.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::clock::{Instant, MILLISECOND, SECOND};

/// Of so many frames one is held up even when all is well.
const RARELY: u32 = 2_000;
/// How long the kernel takes to make up for a lost packet: it waits a round trip and 0.2 s at the least, and then longer.
const REPAIR: std::ops::Range<Instant> = 200 * MILLISECOND..1_200 * MILLISECOND;
/// A connection that is held up for longer is given up by its sender.
const PATIENCE: Instant = 4 * SECOND;
/// Until there is a new connection.
const RECONNECT: std::ops::Range<Instant> = 20 * MILLISECOND..SECOND;

/// One direction of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    /// One-way travel time.
    base: Instant,
    /// When the last frame arrives: none arrives earlier.
    last: Instant,
    /// What was sent before, and has not arrived by then, is lost.
    broken: Instant,
    /// What is sent before is lost.
    up: Instant,
}

impl Stream {
    /// Connected, and from 10 to 100 ms long.
    pub fn new(random: &mut ChaCha8Rng) -> Self {
        Self { base: random.random_range(10 * MILLISECOND..100 * MILLISECOND), last: 0, broken: 0, up: 0 }
    }

    /// One-way travel time.
    pub fn base(&self) -> Instant {
        self.base
    }

    /// The connection breaks.
    pub fn reset(&mut self, now: Instant, random: &mut ChaCha8Rng) {
        (self.broken, self.last) = (now, now);
        self.up = self.up.max(now + random.random_range(RECONNECT));
    }

    /// Whether a frame that arrives now was lost with its connection.
    pub fn has_lost(&self, sent: Instant) -> bool {
        sent < self.broken
    }

    /// How long a frame travels; `None` when it is lost. `loss` is the network's, in millionths; `held` is what else holds it up.
    pub fn send(&mut self, now: Instant, loss: u32, held: Instant, random: &mut ChaCha8Rng) -> Option<Instant> {
        if now < self.up {
            return None;
        }
        let stalls = random.random_range(0..RARELY) == 0 || random.random_range(0..1_000_000) < loss;
        let repair = if stalls { random.random_range(REPAIR) } else { 0 };
        let arrives = (now + self.base + repair + held).max(self.last + 1);
        if arrives - now > PATIENCE {
            self.reset(now, random);
            return None;
        }
        self.last = arrives;
        Some(arrives - now)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn frames_arrive_in_order_or_not_at_all_and_a_reset_loses_what_is_under_way() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut stream = Stream::new(&mut random);
        let (mut last, mut lost, mut stalled) = (0, 0, 0);
        for now in (0..1000).map(|number| number * 10 * MILLISECOND) {
            match stream.send(now, 50_000, 0, &mut random) {
                Some(travel) => {
                    assert!(now + travel > last);
                    last = now + travel;
                    stalled += u32::from(travel > stream.base());
                }
                None => lost += 1,
            }
        }
        assert!(stalled > 100 && lost == 0, "{stalled} {lost}");
        stream.reset(20 * SECOND, &mut random);
        assert!(stream.has_lost(20 * SECOND - 1) && !stream.has_lost(20 * SECOND));
        assert_eq!(stream.send(20 * SECOND + 1, 0, 0, &mut random), None);
        assert!(stream.send(21 * SECOND, 0, 0, &mut random).is_some());
    }
}
