//! The reference of the configuration, from its schema.

use drcm::config::{Key, Section, Takes, Without, sections};

/// The text of docs/configuration.md.
pub fn reference() -> String {
    let mut text = String::from(
        "# The configuration, key by key\n\n\
         Made from the schema by `make reference`. `/etc/drcm/cm.cfg` and `cm.toml` say the same in two formats; `drcm convert` makes one of the\n\
         other. Names of sections and keys may be in any case. In cm.cfg a flag is 1, true or yes, or 0, false or no; text after a `#` is a\n\
         comment (`\\#` for a `#` that is meant). What the kinds of resources do is told in [resources.md](resources.md), what ownership means\n\
         in [cluster.md](cluster.md). Every node has the same file.\n",
    );
    for section in sections() {
        text += &heading(&section);
        text += "\n| key | takes | left out | meaning |\n|---|---|---|---|\n";
        for key in section.keys {
            let means = key.means.replace('|', "\\|");
            text += &format!("| {} | {} | {} | {means} |\n", names(key), takes(&key.takes), without(key, &section));
        }
    }
    text
}

fn heading(section: &Section) -> String {
    match section.cfg {
        None => "\n## Options of a resource: any of its tables in cm.toml\n".to_owned(),
        Some(cfg) if section.toml.ends_with(".NICKNAME]") => {
            let fields: Vec<&str> = section.keys.iter().map(|key| key.name).filter(|name| *name != "mount_options").collect();
            format!("\n## `[{cfg}]`, in cm.toml `{}`\n\nA line each in cm.cfg: `nickname, {}`.\n", section.toml, fields.join(", "))
        }
        Some(cfg) => format!("\n## `[{cfg}]`, in cm.toml `{}`\n", section.toml),
    }
}

fn names(key: &Key) -> String {
    let others: Vec<String> = key.aliases.iter().map(|alias| format!("`{alias}`")).collect();
    match others.as_slice() {
        [] => format!("`{}`", key.name),
        [toml] if key.takes == Takes::List => format!("`{}`, in cm.toml {toml}", key.name),
        others => format!("`{}`, also {}", key.name, others.join(", ")),
    }
}

fn takes(takes: &Takes) -> String {
    match takes {
        Takes::Flag => "yes or no".to_owned(),
        Takes::Whole { least, most, unit: "" } => format!("{least} to {most}"),
        Takes::Whole { least, most, unit } => format!("{least} to {most} {unit}"),
        Takes::Seconds { least, most } => format!("{least} to {most} seconds"),
        Takes::Word(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        Takes::Path => "absolute path".to_owned(),
        Takes::Address => "IP address".to_owned(),
        Takes::Text(what) => (*what).to_owned(),
        Takes::List => "nicknames".to_owned(),
        Takes::Several(what) => (*what).to_owned(),
    }
}

fn without(key: &Key, section: &Section) -> String {
    match (&key.default, &key.takes) {
        (Without::Required, _) => "must be there".to_owned(),
        (Without::Said(words), _) => (*words).to_owned(),
        (Without::Is(value), Takes::Flag) => if *value == "true" { "yes" } else { "no" }.to_owned(),
        (Without::Is(value), _) if section.cfg.is_none() && key.name != "order" => format!("that of `[server]` ({value})"),
        (Without::Is(value), _) => format!("`{}`", value.trim_matches('"')),
    }
}
