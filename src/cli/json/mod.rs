//! The answers for programs: one JSON document each, with the name and the version of its schema in `schema`. docs/json.md is
//! their contract: within a version fields are only ever added.

mod events;
mod ping;
mod printcfg;
mod rstats;
mod status;

pub use events::{event, events};
pub use ping::ping;
pub use printcfg::printcfg;
pub use rstats::rstats;
pub use status::{status, status_unanswered};

use serde::Serialize;

/// A document as it is printed: indented, one line feed at its end. Control characters are escaped, as JSON wants it.
fn page(document: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(document).expect("plain data, which JSON can hold");
    text.push('\n');
    text
}

/// Compares with the golden file; `DRCM_WRITE_GOLDEN=1` writes it instead, to be read before it is committed.
#[cfg(test)]
fn golden(name: &str, schema: &str, text: &str) {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/json").join(format!("{name}.json"));
    if std::env::var_os("DRCM_WRITE_GOLDEN").is_some() {
        std::fs::write(&file, text).expect("the golden file is writable");
    }
    let wanted = std::fs::read_to_string(&file).expect("the golden file exists");
    assert!(text == wanted, "differs from {}:\n{text}", file.display());
    let value: serde_json::Value = serde_json::from_str(text).expect("JSON");
    assert_eq!(value["schema"], schema);
    let documented = include_str!("../../../docs/json.md");
    assert!(documented.contains(&format!("`{schema}`")), "{schema} is not in docs/json.md");
    assert_documented(&value, documented);
}

/// Every key of the document is in docs/json.md.
#[cfg(test)]
fn assert_documented(value: &serde_json::Value, documented: &str) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                // Reasons of dropped datagrams are no keys of ours.
                assert!(key.contains(' ') || documented.contains(&format!("`{key}`")), "`{key}` is not in docs/json.md");
                assert_documented(value, documented);
            }
        }
        serde_json::Value::Array(list) => list.iter().for_each(|value| assert_documented(value, documented)),
        _ => {}
    }
}
