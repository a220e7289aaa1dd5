//! The status page and the metrics of real daemons: in a real browser, and under visitors that mean harm.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, SocketAddrV4, TcpStream},
    os::unix::fs::PermissionsExt as _,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use drcm::lab::{Lab, Plan, Port};
use serde_json::{Value, json};

use super::{Cluster, LONG, ms, seconds};

const PORT: u16 = 9186;
const TOKEN: &str = "look-at-it";
/// Where the browser takes orders, by the WebDriver protocol.
const DRIVER: &str = "http://127.0.0.1:9515";

/// Three nodes that show the page to who knows the token.
fn cluster() -> Cluster {
    let mut plan = Plan::of(3);
    plan.server = format!("status_listen = 0.0.0.0:{PORT}\nstatus_token = page\n");
    let mut cluster = Cluster::idle(plan);
    let file = cluster.lab.directory().join("auth/page");
    fs::write(&file, format!("{TOKEN}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    cluster.lab.start_all().unwrap();
    cluster.wait_owner(0);
    cluster
}

/// What a client is answered: the status and the text.
fn get(lab: &Lab, node: usize, path: &str, token: Option<&str>) -> (u16, String) {
    let address = Plan::address(node);
    let url = format!("http://{address}:{PORT}{path}");
    let token = token.map(|token| format!("Bearer {token}"));
    lab.client()
        .run(move || {
            let agent = ureq::Agent::new_with_config(
                ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(10))).build(),
            );
            let mut request = agent.get(&url);
            if let Some(token) = token {
                request = request.header("authorization", token);
            }
            let mut response = request.call().unwrap();
            (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
        })
        .unwrap()
}

/// Chromium, driven as its own tests are.
struct Browser {
    driver: Child,
    session: String,
}

impl Browser {
    fn start(lab: &Lab) -> Self {
        let place = lab.directory().join("tmp/browser");
        fs::create_dir_all(&place).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "chromedriver", "--port=9515", "--log-level=SEVERE"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).env("HOME", &place).current_dir("/");
        let driver = lab.client().run(move || command.spawn()).unwrap().expect("chromedriver (package chromium-driver) starts");
        let mut browser = Self { driver, session: String::new() };
        lab_wait(lab, "chromedriver", |lab| browser.ask(lab, "GET", "/status", &Value::Null).is_some());
        let profile = format!("--user-data-dir={}", place.display());
        let options = json!({
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server", profile],
        });
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let session = browser.ask(lab, "POST", "/session", &wanted).expect("a browser");
        browser.session = format!("/session/{}", session["sessionId"].as_str().unwrap_or_else(|| panic!("{session}")));
        browser
    }

    /// One command; nothing when the driver cannot be reached.
    fn ask(&self, lab: &Lab, method: &str, path: &str, body: &Value) -> Option<Value> {
        let (url, text, post) = (format!("{DRIVER}{}{path}", self.session), body.to_string(), method == "POST");
        let answer = lab
            .client()
            .run(move || {
                let agent = ureq::Agent::new_with_config(
                    ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(60))).build(),
                );
                let answer = if post { agent.post(&url).send(&text) } else { agent.get(&url).call() };
                answer.and_then(|mut answer| answer.body_mut().read_to_string())
            })
            .unwrap();
        let answer: Value = serde_json::from_str(&answer.ok()?).unwrap();
        Some(answer["value"].clone())
    }

    fn open(&self, lab: &Lab, url: &str) {
        self.ask(lab, "POST", "/url", &json!({ "url": url })).unwrap();
    }

    /// What a script gives.
    fn script(&self, lab: &Lab, script: &str) -> Value {
        self.ask(lab, "POST", "/execute/sync", &json!({"script": script, "args": []})).unwrap()
    }

    fn text(&self, lab: &Lab, selector: &str) -> String {
        let found = self.script(lab, &format!("const e = document.querySelector('{selector}'); return e ? e.innerText : ''"));
        found.as_str().unwrap_or_else(|| panic!("{selector}: {found}")).to_owned()
    }

    fn wait(&self, lab: &Lab, selector: &str, holds: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let text = self.text(lab, selector);
            if holds(&text) {
                return text;
            }
            assert!(begun.elapsed() < LONG, "{selector} stays: {text}");
            std::thread::sleep(ms(100));
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.driver.kill().ok();
        self.driver.wait().ok();
    }
}

fn lab_wait(lab: &Lab, what: &str, holds: impl Fn(&Lab) -> bool) {
    let begun = Instant::now();
    while !holds(lab) {
        assert!(begun.elapsed() < LONG, "no {what}");
        std::thread::sleep(ms(50));
    }
}

#[test]
fn the_page_shows_a_failover_in_a_real_browser() {
    let mut cluster = cluster();
    let browser = Browser::start(&cluster.lab);
    let lab = &cluster.lab;
    // A stranger sees nothing.
    browser.open(lab, &format!("http://{}:{PORT}/", Plan::address(1)));
    assert!(!browser.text(lab, "body").contains("node1"), "{}", browser.text(lab, "body"));
    browser.open(lab, &format!("http://anyone:{TOKEN}@{}:{PORT}/", Plan::address(1)));
    browser.wait(lab, "#health", |text| text == "Healthy");
    let row = |browser: &Browser, lab: &Lab| browser.text(lab, "#resources tbody");
    assert!(browser.text(lab, "#seen").contains("seen from node2") && browser.text(lab, "#seen").contains("quorum yes (3 of 3"));
    let nodes = browser.text(lab, "#nodes tbody");
    assert!(["node1", "node2", "node3"].iter().all(|name| nodes.contains(name)) && nodes.matches("up").count() == 3, "{nodes}");
    let resources = row(&browser, lab);
    assert!(resources.contains("ip:service") && resources.contains("OK-Normal") && resources.contains("node1"), "{resources}");

    cluster.outage(1, |lab| lab.switch().cut(Port::Node(0)).unwrap());
    let lab = &cluster.lab;
    browser.wait(lab, "#health", |text| text != "Healthy");
    browser.wait(lab, "#nodes tbody", |text| text.contains("down"));
    let resources = browser.wait(lab, "#resources tbody", |text| text.contains("OK-Backup"));
    assert!(resources.contains("node2"), "{resources}");
    let events = browser.wait(lab, "#events tbody", |text| text.contains("moved from node1 to node2"));
    assert!(events.contains("detected ") && events.contains("announced "), "{events}");
    assert!(browser.text(lab, "#reasons").contains("node1"), "{}", browser.text(lab, "#reasons"));

    // Its tools.
    let find = |text: &str| {
        format!("const f = document.getElementById('find'); f.value = '{text}'; f.dispatchEvent(new Event('input')); return ''")
    };
    browser.script(lab, &find("no such thing"));
    assert_eq!(browser.text(lab, "#resources tbody"), "");
    browser.script(lab, &find("service"));
    assert!(row(&browser, lab).contains("ip:service"));
    browser.script(lab, "document.getElementById('odd').click(); return ''");
    assert!(row(&browser, lab).contains("OK-Backup"));

    // On a phone nothing sticks out, and each cell says what it is.
    browser.ask(lab, "POST", "/window/rect", &json!({"width": 500, "height": 800})).unwrap();
    let sticks_out = "const w = document.documentElement; return w.scrollWidth > w.clientWidth";
    assert_eq!(browser.script(lab, sticks_out), false);
    let head = "return getComputedStyle(document.querySelector('#nodes td'), '::before').content";
    assert_eq!(browser.script(lab, head), "\"Node\"");

    // Nothing came from elsewhere, and nothing was refused or went wrong but the greeting of the stranger.
    let foreign = "return performance.getEntriesByType('resource').map(e => new URL(e.name).host).filter(h => h !== location.host)";
    assert_eq!(browser.script(lab, foreign), json!([]));
    let log = browser.ask(lab, "POST", "/se/log", &json!({"type": "browser"})).unwrap();
    let faults: Vec<&Value> =
        log.as_array().unwrap().iter().filter(|entry| !entry["message"].as_str().unwrap_or_default().contains("401")).collect();
    assert!(faults.is_empty(), "{faults:?}");

    // With its node gone the page says that it is old.
    cluster.lab.node_mut(1).kill();
    cluster.lab.pass(seconds(11)).unwrap();
    let lab = &cluster.lab;
    browser.wait(lab, "#stale", |text| text.contains("what is shown is old"));
    cluster.assert_never_two();
}

#[test]
fn metrics_tell_a_failover_and_visitors_that_mean_harm_cost_nothing() {
    let mut cluster = cluster();
    let lab = &cluster.lab;
    for token in [None, Some("wrong")] {
        for path in ["/", "/metrics", "/status.json", "/none"] {
            assert_eq!(get(lab, 1, path, token).0, 401, "{path} with {token:?}");
        }
    }
    assert_eq!(get(lab, 1, "/none", Some(TOKEN)).0, 404);
    let metrics = |lab: &Lab, node: usize| {
        let (status, text) = get(lab, node, "/metrics", Some(TOKEN));
        assert_eq!(status, 200, "{text}");
        text
    };
    let running = |lab: &Lab, nodes: &[usize]| {
        nodes.iter().filter(|node| metrics(lab, **node).contains("drcm_group_running{group=\"node1:service\"} 1\n")).count()
    };
    assert_eq!(running(lab, &[0, 1, 2]), 1);
    let before = metrics(lab, 1);
    assert!(before.contains("drcm_node_up{node=\"node1\"} 1\n") && before.contains("drcm_outage_seconds_count{kind=\"failover\"} 0\n"));
    let status: Value = serde_json::from_str(&get(lab, 1, "/status.json", Some(TOKEN)).1).unwrap();
    assert_eq!((&status["schema"], &status["seen_from"]), (&"drcm.status/1".into(), &"node2".into()));

    // More visitors than are served, who say nothing, or not all, or far too much.
    let held: Vec<TcpStream> = lab
        .client()
        .run(|| {
            let target = SocketAddr::V4(SocketAddrV4::new(Plan::address(0), PORT));
            (0..200)
                .filter_map(|number| {
                    let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(2)).ok()?;
                    let bytes: &[u8] = match number % 4 {
                        0 => b"",
                        1 => b"GET / HTTP/1.1\r\nX-Half: ",
                        2 => &[b'A'; 60_000],
                        _ => b"GET /status.json HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
                    };
                    // It may have been closed already.
                    stream.write_all(bytes).ok();
                    Some(stream)
                })
                .collect()
        })
        .unwrap();
    assert!(held.len() > 64, "{} could connect", held.len());
    cluster.holds_still(seconds(3), ms(300));
    let closed = held
        .into_iter()
        .map(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            stream.read_to_end(&mut Vec::new()).map_or_else(|error| error.kind() == std::io::ErrorKind::ConnectionReset, |_| true)
        })
        .filter(|closed| *closed)
        .count();
    assert!(closed > 64, "{closed} were closed");

    let outage = cluster.outage(1, |lab| lab.switch().cut(Port::Node(0)).unwrap());
    let lab = &cluster.lab;
    lab_wait(lab, "failover in the metrics", |lab| metrics(lab, 1).contains("drcm_outage_seconds_count{kind=\"failover\"} 1\n"));
    let after = metrics(lab, 1);
    assert!(after.contains("drcm_node_up{node=\"node1\"} 0\n"), "{after}");
    let line = after.lines().find(|line| line.starts_with("drcm_outage_seconds_sum{kind=\"failover\"}")).unwrap();
    let told: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
    assert!((told - outage.as_secs_f64()).abs() < 0.2, "{told} s, and {outage:?} for the client");
    let announced = after.lines().find_map(|line| line.strip_prefix("drcm_announcements_total ")).unwrap();
    assert!(announced.parse::<u64>().unwrap() > 0, "{after}");
    assert_eq!(running(lab, &[1, 2]), 1);
    cluster.assert_never_two();
}
