//! What is to be seen, and where.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Bytes,
    header::{self, HeaderValue},
};
use serde::Serialize;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::{
    access::{Access, Denied},
    meters::Meters,
    metrics::metrics,
};
use crate::{
    control::Handler,
    health,
    model::{self, Config, EventPage, EventQuery, EventsDocument},
};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const JSON: &str = "application/json";
const PLAIN: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Nothing but what is served here is loaded, shown inside or called; so nothing that the cluster is named can become a program.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";
/// Answers are that old at most: however many look, the cluster is asked once in that time.
const FRESH: Duration = Duration::from_secs(1);
/// For the daemon to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Events on the page.
const EVENTS: u32 = 100;

/// An answer that serves all who ask within a second.
type Shared = Mutex<Option<(Instant, Bytes)>>;

/// What is served.
pub struct Site {
    config: Arc<Config>,
    access: Access,
    handler: Handler,
    meters: Arc<Meters>,
    status: Shared,
    events: Shared,
    complained: AtomicBool,
}

/// Why there is no answer: a sentence.
struct Silent(String);

impl Site {
    /// Of the cluster with this configuration, whose daemon answers by the handler.
    #[must_use]
    pub fn new(config: Arc<Config>, access: Access, handler: Handler, meters: Arc<Meters>) -> Self {
        Self { config, access, handler, meters, status: Shared::default(), events: Shared::default(), complained: AtomicBool::new(false) }
    }

    /// The answer to one question.
    pub(super) async fn answer<Body>(&self, question: &Request<Body>) -> Response<Full<Bytes>> {
        if let Err(denied) = self.access.admit(question.headers()).await {
            return self.deny(denied);
        }
        if question.method() != Method::GET && question.method() != Method::HEAD {
            let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "there is nothing to change here\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let (kind, answer) = match question.uri().path() {
            "/" => (HTML, Ok(Bytes::from_static(PAGE.as_bytes()))),
            "/page.css" => (CSS, Ok(Bytes::from_static(STYLE.as_bytes()))),
            "/page.js" => (JAVASCRIPT, Ok(Bytes::from_static(SCRIPT.as_bytes()))),
            "/status.json" => (JSON, fresh(&self.status, self.status()).await),
            "/events.json" => (JSON, fresh(&self.events, self.events()).await),
            "/metrics" => (OPEN_METRICS, self.metrics().await),
            _ => return respond(StatusCode::NOT_FOUND, PLAIN, "there is /, /status.json, /events.json and /metrics\n"),
        };
        match answer {
            Ok(content) => respond(StatusCode::OK, kind, content),
            Err(Silent(why)) => respond(StatusCode::SERVICE_UNAVAILABLE, PLAIN, why + "\n"),
        }
    }

    fn deny(&self, denied: Denied) -> Response<Full<Bytes>> {
        match denied {
            Denied::Host => {
                respond(StatusCode::FORBIDDEN, PLAIN, "call this page by its address or as localhost, or give it a status_token\n")
            }
            Denied::Unknown => unknown(),
            Denied::NoToken(why) => {
                if !self.complained.swap(true, Ordering::Relaxed) {
                    tracing::warn!("the status page answers nobody: {why}");
                }
                unknown()
            }
        }
    }

    async fn ask(&self, request: model::Request) -> Result<model::Response, Silent> {
        match timeout(PATIENCE, (self.handler)(request)).await {
            Ok(model::Response::Refused(why)) => Err(Silent(why)),
            Ok(response) => Ok(response),
            Err(_) => Err(Silent(format!("the daemon had no answer within {} seconds", PATIENCE.as_secs()))),
        }
    }

    /// `drcm.status/1`, as cm_stat judges it.
    async fn status(&self) -> Result<Bytes, Silent> {
        match self.ask(model::Request::Cluster).await? {
            model::Response::Cluster(report) => Ok(json(&health::document(&self.config, &report))),
            _ => Err(odd()),
        }
    }

    /// `drcm.events/1`, of all nodes, oldest first.
    async fn events(&self) -> Result<Bytes, Silent> {
        let query = EventQuery { own: false, after: Vec::new(), since_ms: 0, newest: EVENTS };
        let model::Response::Events(pages) = self.ask(model::Request::Events(query)).await? else { return Err(odd()) };
        let events = EventPage::merged(&pages);
        let newest = events.len().saturating_sub(EVENTS as usize);
        Ok(json(&EventsDocument::new(&self.config, &pages, &events[newest..])))
    }

    async fn metrics(&self) -> Result<Bytes, Silent> {
        match self.ask(model::Request::Node).await? {
            model::Response::Node(own) => metrics(&self.config, &own, &self.meters).map(Bytes::from).map_err(|_| odd()),
            _ => Err(odd()),
        }
    }
}

/// What was answered a moment ago, or a new answer; others wait for it and share it.
async fn fresh(shared: &Shared, answer: impl Future<Output = Result<Bytes, Silent>>) -> Result<Bytes, Silent> {
    let mut shared = shared.lock().await;
    if let Some((at, content)) = &*shared
        && at.elapsed() < FRESH
    {
        return Ok(content.clone());
    }
    let content = answer.await?;
    *shared = Some((Instant::now(), content.clone()));
    Ok(content)
}

fn odd() -> Silent {
    Silent("the daemon gave another answer than was asked for".to_owned())
}

fn json(document: &impl Serialize) -> Bytes {
    Bytes::from(serde_json::to_vec(document).expect("plain data, which JSON can hold"))
}

fn unknown() -> Response<Full<Bytes>> {
    let mut response =
        respond(StatusCode::UNAUTHORIZED, PLAIN, "this page wants its token: as the password, with any name, or as a bearer token\n");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"drcm\", charset=\"UTF-8\""));
    response
}

fn respond(status: StatusCode, kind: &'static str, content: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(content.into()));
    *response.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use http_body_util::BodyExt as _;

    use super::*;
    use crate::{
        health::fixture::{failover, healthy, three_nodes},
        model::NodeId,
    };

    /// A site of a healthy cluster, and how often its daemon was asked.
    fn site() -> (Site, Arc<AtomicUsize>) {
        let config = Arc::new(three_nodes());
        let asked = Arc::new(AtomicUsize::new(0));
        let (known, count) = (config.clone(), asked.clone());
        let handler: Handler = Arc::new(move |request| {
            count.fetch_add(1, Ordering::Relaxed);
            let report = healthy(&known);
            let answer = match request {
                model::Request::Cluster => model::Response::Cluster(report),
                model::Request::Node => model::Response::Node(Box::new(report.members[0].report.clone().unwrap())),
                model::Request::Events(_) => {
                    let page = EventPage { node: NodeId::of("cmnode1"), answered: true, newest: 1, events: vec![failover(1, 5)] };
                    model::Response::Events(vec![page])
                }
                _ => model::Response::Refused("not in this test".to_owned()),
            };
            Box::pin(async move { answer })
        });
        (Site::new(config, Access::Local, handler, Arc::default()), asked)
    }

    async fn get(site: &Site, path: &str) -> (StatusCode, String, String) {
        let question = Request::get(path).header("host", "localhost").body(()).unwrap();
        let response = site.answer(&question).await;
        let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        assert_eq!(response.headers()[header::CONTENT_SECURITY_POLICY], POLICY);
        let status = response.status();
        let content = response.into_body().collect().await.unwrap().to_bytes();
        (status, kind, String::from_utf8(content.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn everything_has_its_place() {
        let (site, asked) = site();
        for (path, kind, holds) in [
            ("/", HTML, "<title>"),
            ("/page.css", CSS, "{"),
            ("/page.js", JAVASCRIPT, "fetch("),
            ("/status.json", JSON, "\"schema\":\"drcm.status/1\""),
            ("/status.json?again", JSON, "\"health\":\"healthy\""),
            ("/events.json", JSON, "\"schema\":\"drcm.events/1\""),
            ("/metrics", OPEN_METRICS, "drcm_quorum 1"),
        ] {
            let (status, type_, content) = get(&site, path).await;
            assert_eq!((status, type_.as_str()), (StatusCode::OK, kind), "{path}");
            assert!(content.contains(holds), "{path}: {content}");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 3, "the second look at the status was answered from the first");
        assert_eq!(get(&site, "/etc/passwd").await.0, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn nothing_can_be_changed_and_strangers_are_told_what_it_takes() {
        let (site, asked) = site();
        let post = Request::post("/").header("host", "localhost").body(()).unwrap();
        assert_eq!(site.answer(&post).await.status(), StatusCode::METHOD_NOT_ALLOWED);
        let rebound = Request::get("/status.json").header("host", "evil.example.com").body(()).unwrap();
        assert_eq!(site.answer(&rebound).await.status(), StatusCode::FORBIDDEN);
        let closed = Site { access: Access::Token("/nonexistent/token".into()), ..site };
        let response = closed.answer(&Request::get("/status.json").header("host", "localhost").body(()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert!(response.headers().contains_key(header::WWW_AUTHENTICATE));
        assert_eq!(asked.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_page_loads_nothing_from_elsewhere() {
        for text in [PAGE, STYLE, SCRIPT] {
            assert!(!text.contains("http:") && !text.contains("https:") && !text.contains("//cdn"), "{text}");
            assert!(!text.contains("innerHTML") && !text.contains("eval("), "names of resources must stay text");
        }
        // The policy allows neither.
        assert!(!PAGE.contains("<style") && !PAGE.contains("style=") && !PAGE.contains("onclick"));
    }
}
