//! One line of the log.

use std::fmt::{self, Write};

use jiff::{Timestamp, tz::TimeZone};
use tracing::{
    Event, Level,
    field::{Field, Visit},
};

/// Longest text of a line, in bytes.
const MAX_TEXT: usize = 4096;

/// What was logged, before it is given a form: dates are made by the writer's thread.
pub struct Record {
    pub at: Timestamp,
    pub level: Level,
    /// `message key=value`, without control characters.
    pub text: String,
}

/// How an outlet shows a record.
pub enum Form {
    /// `Sun Nov 22 23:01:21 2026 drcm_server[17] INFO: text`, in local time.
    Dated {
        /// What stands between date and level, with its space; may be empty.
        program: String,
    },
    /// `<6>INFO: text`: journald knows the rest.
    Journal,
}

impl Form {
    /// The line, with its end.
    pub fn line(&self, record: &Record, zone: &TimeZone) -> String {
        let Record { at, level, text } = record;
        let word = word(*level);
        match self {
            Self::Journal => format!("<{}>{word}: {text}\n", priority(*level)),
            Self::Dated { program } => {
                let date = at.to_zoned(zone.clone());
                format!("{} {program}{word}: {text}\n", date.strftime("%a %b %e %H:%M:%S %Y"))
            }
        }
    }
}

/// The words of an event: the message, then the fields.
pub fn text(event: &Event<'_>) -> String {
    let mut words = Words { message: String::new(), fields: String::new() };
    event.record(&mut words);
    let Words { message, fields } = words;
    let mut text = String::with_capacity(message.len() + fields.len());
    // A name from outside must not be able to end the line and forge the next.
    for character in message.chars().chain(fields.chars()) {
        let room = MAX_TEXT.saturating_sub(text.len());
        if room < 16 {
            text.push_str(" [cut]");
            break;
        }
        if character.is_control() { text.extend(character.escape_default()) } else { text.push(character) }
    }
    text
}

/// The word that people grep for.
const fn word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        Level::DEBUG => "DEBUG",
        Level::TRACE => "TRACE",
    }
}

/// syslog's severity.
const fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

struct Words {
    message: String,
    fields: String,
}

impl Words {
    fn add(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
            return;
        }
        let is_one_word = !value.is_empty() && !value.contains([' ', '"']);
        let is_bracketed = value.starts_with(['"', '[', '{', '(']);
        let name = field.name();
        let written =
            if is_one_word || is_bracketed { write!(self.fields, " {name}={value}") } else { write!(self.fields, " {name}={value:?}") };
        written.expect("a string takes whatever is written to it");
    }
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, &format!("{value:?}"));
    }
}
