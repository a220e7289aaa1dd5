//! Tables in documents that the run itself writes.

use std::{fs, path::Path, time::Duration};

use super::LabError;

/// Puts the rows of `name` into the table of a document, in the place of its earlier ones. The table stands between two comments that name the
/// `writer`; each row begins with the name that it belongs to, and the names come in this order. `heading` is all that stands before the rows.
///
/// # Errors
/// [`LabError::System`], when the document cannot be read or written; [`LabError::NoTable`].
pub fn record(document: &Path, writer: &str, order: &[&str], name: &str, heading: &str, rows: &[String]) -> Result<(), LabError> {
    let failed = |what: &str| {
        let what = format!("{what} {}", document.display());
        move |error| LabError::system(what, error)
    };
    let text = fs::read_to_string(document).map_err(failed("reading"))?;
    let text = with_rows(&text, writer, order, name, heading, rows).ok_or_else(|| LabError::NoTable { document: document.to_owned() })?;
    fs::write(document, text).map_err(failed("writing"))
}

fn with_rows(text: &str, writer: &str, order: &[&str], name: &str, heading: &str, rows: &[String]) -> Option<String> {
    let (begin, end) = (format!("<!-- written by {writer}: begin -->"), format!("<!-- written by {writer}: end -->"));
    let (before, rest) = text.split_once(&begin)?;
    let (table, after) = rest.split_once(&end)?;
    let place = |row: &str| {
        let of = row.strip_prefix("| ")?.split(" |").next()?;
        order.iter().position(|known| *known == of)
    };
    let own = order.iter().position(|known| *known == name);
    let others = table.lines().filter(|row| place(row).is_some() && place(row) != own).map(str::to_owned);
    let mut all: Vec<String> = others.chain(rows.iter().cloned()).collect();
    all.sort_by_key(|row| place(row));
    Some(format!("{before}{begin}\n\n{heading}\n{}\n\n{end}{after}", all.join("\n")))
}

/// How many processors this host has, and of which kind.
#[must_use]
pub fn processors() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let names: Vec<&str> =
        text.lines().filter(|line| line.starts_with("model name")).filter_map(|line| line.split_once(": ")).map(|(_, name)| name).collect();
    format!("a host with {} processors ({})", names.len(), names.first().unwrap_or(&"of unknown kind").trim())
}

/// How long others on the host have had this machine's processors while it wanted them, since it was booted, over all of them; nothing where
/// it is no virtual one. The source is `steal` in proc_stat(5).
#[must_use]
pub fn stolen() -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks = text.lines().next().and_then(|all| all.split_whitespace().nth(8)).and_then(|ticks| ticks.parse().ok()).unwrap_or(0_u64);
    // The unit of what the kernel shows to programs, on every architecture of today.
    Duration::from_millis(ticks * 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_never_given_back() {
        let before = stolen();
        assert!(stolen() >= before);
    }

    #[test]
    fn rows_take_the_place_of_earlier_ones_and_keep_their_order() {
        let text = "# Seen\n<!-- written by make x: begin -->\nold | heading\n| a | 1 |\n| c | 1 |\n| gone | 1 |\n<!-- written by make x: end -->\nEnd.\n";
        let rows = |rows: &[&str]| rows.iter().map(|row| (*row).to_owned()).collect::<Vec<_>>();
        let with =
            |text: &str, name, new: &[&str]| with_rows(text, "make x", &["a", "b", "c"], name, "| what |\n|---|", &rows(new)).unwrap();
        let once = with(text, "b", &["| b | 2 |", "| b | 3 |"]);
        let table = "| what |\n|---|\n| a | 1 |\n| b | 2 |\n| b | 3 |\n| c | 1 |\n\n<!-- written by make x: end -->\nEnd.\n";
        assert_eq!(once, format!("# Seen\n<!-- written by make x: begin -->\n\n{table}"));
        assert_eq!(with(&once, "a", &["| a | 9 |"]), once.replace("| a | 1 |", "| a | 9 |"));
        assert_eq!(with_rows("no table", "make x", &["a"], "a", "", &[]), None);
    }
}
