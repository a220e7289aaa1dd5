//! The address of a server, within a time.

use std::{net::SocketAddr, sync::LazyLock, time::Duration};

use tokio::{net::lookup_host, sync::Semaphore, time::timeout};

use super::error::MountError;

/// Names that may be looked up at a time: each occupies a thread until the resolver gives up.
static TURNS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(8));

/// The first address of a host, by the system's own order of preference.
pub(super) async fn resolve(host: &str, limit: Duration) -> Result<SocketAddr, MountError> {
    let why = |why: String| MountError::Host { host: host.to_owned(), why };
    let look = async {
        let turn = TURNS.acquire().await;
        let asked = host.to_owned();
        // Goes on when nobody waits for it any more, and gives its turn back only then.
        let task = tokio::spawn(async move {
            let found = lookup_host((asked.as_str(), 0)).await.map(|mut found| found.next());
            drop(turn);
            found
        });
        task.await
    };
    match timeout(limit, look).await {
        Err(_) => Err(why(format!("no answer within {limit:?}"))),
        Ok(Err(error)) => Err(why(error.to_string())),
        Ok(Ok(Err(error))) => Err(why(error.to_string())),
        Ok(Ok(Ok(None))) => Err(why("it has no address".into())),
        Ok(Ok(Ok(Some(address)))) => Ok(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_are_their_own_names() {
        let second = Duration::from_secs(1);
        assert_eq!(resolve("192.0.2.1", second).await.unwrap().ip().to_string(), "192.0.2.1");
        assert_eq!(resolve("2001:db8::1", second).await.unwrap().ip().to_string(), "2001:db8::1");
        let error = resolve("no-such-host.invalid", Duration::from_secs(20)).await.unwrap_err().to_string();
        assert!(error.contains("no-such-host.invalid") && error.contains("/etc/hosts"), "{error}");
    }
}
