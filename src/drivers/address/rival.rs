//! Others that speak as an address of ours: a node that was paused and announces late, a machine with the same address. Clients
//! that believed them are told again where it is.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{Shared, lock};
use crate::sys::arp::{Claim, Claims};

/// Between two bursts about one address: two that both have it must not flood the network.
const AGAIN: Duration = Duration::from_secs(1);
/// Between two words in the log about one address.
const TELL_AGAIN: Duration = Duration::from_secs(60);
/// After a fault of the socket.
const RETRY: Duration = Duration::from_secs(5);

/// When something was last done and said about an address.
struct Last {
    burst: Instant,
    told: Instant,
}

/// Listens, until aborted.
pub(super) async fn listen(shared: Arc<Shared>, mut claims: Claims) {
    let mut last: BTreeMap<IpAddr, Last> = BTreeMap::new();
    loop {
        match claims.next().await {
            Ok(claim) => answer(&shared, claim, &mut last).await,
            Err(error) => {
                tracing::warn!("claims of others to our addresses are not heard for {} s: {error}", RETRY.as_secs());
                sleep(RETRY).await;
            }
        }
    }
}

async fn answer(shared: &Shared, claim: Claim, last: &mut BTreeMap<IpAddr, Last>) {
    let now = Instant::now();
    if !lock(&shared.wanted).keys().any(|key| key.ip == claim.ip) || last.get(&claim.ip).is_some_and(|last| now < last.burst + AGAIN) {
        return;
    }
    // Of what was stopped since, nothing has to be remembered.
    last.retain(|ip, _| lock(&shared.wanted).keys().any(|key| key.ip == *ip));
    let Ok((links, _)) = shared.look().await else { return };
    let Some(link) = links.iter().find(|link| link.index == claim.index) else { return };
    // A bond or a bridge may hand us back what we said.
    if links.iter().any(|link| link.hardware == Some(claim.hardware)) {
        return;
    }
    let mut ours = false;
    for (key, wanted) in lock(&shared.wanted).iter_mut().filter(|(key, _)| key.ip == claim.ip && key.device == link.name) {
        (wanted.step, wanted.next, ours) = (0, now, true);
        tracing::debug!("{} is claimed by another on {}", key.ip, key.device);
    }
    if !ours {
        return;
    }
    shared.replan.notify_one();
    let told = last.get(&claim.ip).map(|last| last.told).filter(|told| now < *told + TELL_AGAIN);
    if told.is_none() {
        let who: Vec<String> = claim.hardware.iter().map(|byte| format!("{byte:02x}")).collect();
        tracing::warn!("{} is claimed by {} on {} as well: announced again", claim.ip, who.join(":"), link.name);
    }
    last.insert(claim.ip, Last { burst: now, told: told.unwrap_or(now) });
}
