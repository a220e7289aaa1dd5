//! `auth_dir/HOST`: the credentials of the shares of one server, as shell assignments. They are read, never executed: what
//! only a shell could work out is refused.

use std::{
    fmt, fs,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::Path,
    time::{Duration, SystemTime},
};

use nix::{libc, unistd};

use super::error::MountError;

/// A file with half a dozen assignments has less.
const LIMIT: u64 = 64 * 1024;
/// Written when there is no file yet.
const TEMPLATE: &str = "\
# Credentials for the shares of HOST: assignments as a shell writes them, with quotes around what is special to it.
# Keep this file owned by root, mode 600.
export username=\"\"
export password=''
# Days after which the password is overdue; 0 for never.
export passwordage=\"0\"
# Modes and owner of what appears in the mount; leave empty for the defaults.
export dir_mode=\"0755\"
export file_mode=\"0644\"
export uid=\"\"
export gid=\"\"
";

/// A password. Never shown; overwritten when dropped.
#[derive(Default, PartialEq, Eq)]
pub(super) struct Password(Vec<u8>);

impl Password {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Password {
    fn drop(&mut self) {
        self.0.fill(0);
        // Keeps the optimiser from leaving the zeros out.
        std::hint::black_box(&mut self.0);
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "Password(none)" } else { "Password(hidden)" })
    }
}

/// What a file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) username: String,
    pub(super) password: Password,
    pub(super) domain: String,
    /// Days after which the password is overdue; 0 for never.
    pub(super) password_age: u64,
    pub(super) dir_mode: String,
    pub(super) file_mode: String,
    pub(super) uid: String,
    pub(super) gid: String,
}

/// Reads the file of a host. Where there is none a template is written, and that is an error.
pub(super) fn read(auth_dir: &Path, host: &str) -> Result<Credentials, MountError> {
    let path = auth_dir.join(host);
    let fault = |why: String| MountError::Credentials { path: path.clone(), why };
    // O_NONBLOCK: opening a pipe that somebody put there must not wait for its writer.
    let mut file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(fault(match write_template(auth_dir, &path, host) {
                Ok(()) => "it was missing; a template has been written there: fill in username and password".into(),
                Err(error) => format!("it is missing, and no template of it can be written: {error}"),
            }));
        }
        other => other.map_err(|error| fault(format!("cannot be read: {error}")))?,
    };
    let metadata = file.metadata().map_err(|error| fault(format!("cannot be looked at: {error}")))?;
    if !metadata.is_file() {
        return Err(fault("it is not a regular file".into()));
    }
    if metadata.uid() != 0 && metadata.uid() != unistd::geteuid().as_raw() {
        return Err(fault(format!("it belongs to another user; chown root {}", path.display())));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(fault(format!("it may be written by others; chmod 600 {}", path.display())));
    }
    if metadata.mode() & 0o044 != 0 {
        tracing::warn!("{} may be read by others; chmod 600 {}", path.display(), path.display());
    }
    // Room for all at once: a vector that grows would leave pieces of it behind in freed memory.
    let mut text = Password(Vec::with_capacity(usize::try_from(metadata.len().min(LIMIT)).unwrap_or(0) + 2));
    let read = (&mut file).take(LIMIT + 1).read_to_end(&mut text.0);
    read.map_err(|error| fault(format!("cannot be read: {error}")))?;
    if text.0.len() as u64 > LIMIT {
        return Err(fault("it is longer than 64 KiB, which no file of credentials is".into()));
    }
    parse(&text.0).map_err(|(line, why)| fault(format!("line {line}: {why}")))
}

/// Notes when the password was changed (that is, the file), and whether it is overdue, in run_dir.
pub(super) fn note_age(auth_dir: &Path, run_dir: &Path, host: &str, limit_in_days: u64) -> io::Result<()> {
    const DAY: u64 = 24 * 60 * 60;
    let changed = fs::metadata(auth_dir.join(host))?.modified()?;
    let since = changed.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    fs::write(run_dir.join(format!("{host}.last")), format!("{since}\n"))?;
    let age = SystemTime::now().duration_since(changed).unwrap_or(Duration::ZERO).as_secs() / DAY;
    let expired = run_dir.join(format!("{host}.expired"));
    if limit_in_days > 0 && age >= limit_in_days {
        tracing::warn!("the password for {host} is {age} days old, its age limit is {limit_in_days}; change it, there and in auth_dir");
        fs::write(expired, format!("{age}\n"))
    } else {
        match fs::remove_file(expired) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn write_template(auth_dir: &Path, path: &Path, host: &str) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(auth_dir)?;
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(TEMPLATE.replace("HOST", host).as_bytes())
}

/// The line and what is wrong there, never a value.
pub(super) fn parse(text: &[u8]) -> Result<Credentials, (usize, &'static str)> {
    let mut credentials = Credentials::default();
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let at = |why| (number + 1, why);
        let mut rest = line.strip_suffix(b"\r").unwrap_or(line).trim_ascii_start();
        while !rest.is_empty() && rest[0] != b'#' {
            if let Some(tail) = rest.strip_prefix(b"export").filter(|tail| tail.first().is_some_and(u8::is_ascii_whitespace)) {
                rest = tail.trim_ascii_start();
                continue;
            }
            let end = rest.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_').unwrap_or(rest.len());
            let name = &rest[..end];
            if name.is_empty() || name[0].is_ascii_digit() || rest.get(end) != Some(&b'=') {
                return Err(at("only assignments such as export username='web' may stand here: this file is read, not executed"));
            }
            let (value, tail) = word(&rest[end + 1..]).map_err(at)?;
            set(&mut credentials, name, value).map_err(at)?;
            let tail = tail.trim_ascii_start();
            rest = tail.strip_prefix(b";").unwrap_or(tail).trim_ascii_start();
        }
    }
    Ok(credentials)
}

/// One word of a shell, and what follows it.
fn word(text: &[u8]) -> Result<(Password, &[u8]), &'static str> {
    const OPEN: &str = "a quote is not closed on its line";
    const WORKED_OUT: &str = "$ and ` are not worked out here: write the value itself, in single quotes";
    // As long as it can become.
    let mut value = Password(Vec::with_capacity(text.len()));
    let mut rest = text;
    loop {
        let Some((first, tail)) = rest.split_first() else { return Ok((value, rest)) };
        match first {
            b' ' | b'\t' | b';' => return Ok((value, rest)),
            b'&' | b'|' | b'<' | b'>' | b'(' | b')' => return Err("this character needs quotes around it"),
            b'\'' => {
                let end = tail.iter().position(|byte| *byte == b'\'').ok_or(OPEN)?;
                value.0.extend_from_slice(&tail[..end]);
                rest = &tail[end + 1..];
            }
            b'"' => {
                rest = tail;
                loop {
                    let (first, tail) = rest.split_first().ok_or(OPEN)?;
                    rest = tail;
                    match first {
                        b'"' => break,
                        b'\\' if tail.first().is_some_and(|next| b"$`\"\\".contains(next)) => {
                            value.0.push(tail[0]);
                            rest = &tail[1..];
                        }
                        b'`' => return Err(WORKED_OUT),
                        b'$' if begins_expansion(tail) => return Err(WORKED_OUT),
                        other => value.0.push(*other),
                    }
                }
            }
            b'\\' => {
                let (next, tail) = tail.split_first().ok_or("a line ends in a backslash")?;
                value.0.push(*next);
                rest = tail;
            }
            b'`' => return Err(WORKED_OUT),
            b'$' if begins_expansion(tail) || tail.first().is_some_and(|next| b"'\"".contains(next)) => return Err(WORKED_OUT),
            other => {
                value.0.push(*other);
                rest = tail;
            }
        }
    }
}

/// Whether a shell would put something else in place of a `$` before this.
fn begins_expansion(after: &[u8]) -> bool {
    after.first().is_some_and(|next| next.is_ascii_alphanumeric() || b"_{(?#$!*@-".contains(next))
}

fn set(credentials: &mut Credentials, name: &[u8], value: Password) -> Result<(), &'static str> {
    if value.0.iter().any(u8::is_ascii_control) {
        return Err("a control character in a value");
    }
    let text = |value: &Password| String::from_utf8(value.0.clone()).map_err(|_| "a value that is not UTF-8");
    match name {
        b"username" => credentials.username = text(&value)?,
        b"password" => credentials.password = value,
        b"domain" => credentials.domain = text(&value)?,
        b"passwordage" => credentials.password_age = text(&value)?.trim().parse().unwrap_or(0),
        b"dir_mode" => credentials.dir_mode = text(&value)?,
        b"file_mode" => credentials.file_mode = text(&value)?,
        b"uid" => credentials.uid = text(&value)?,
        b"gid" => credentials.gid = text(&value)?,
        // A shell lets a site set what else it likes.
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Result<String, (usize, &'static str)> {
        parse(text.as_bytes()).map(|credentials| String::from_utf8(credentials.password.bytes().to_vec()).unwrap())
    }

    #[test]
    fn the_template_can_be_read() {
        let credentials = parse(TEMPLATE.as_bytes()).unwrap();
        assert_eq!((credentials.username.as_str(), credentials.dir_mode.as_str(), credentials.password_age), ("", "0755", 0));
        let filled =
            TEMPLATE.replace("username=\"\"", "username=web").replace("password=''", "password='a b'").replace("age=\"0\"", "age=\"30\"");
        let credentials = parse(filled.as_bytes()).unwrap();
        assert_eq!((credentials.username.as_str(), credentials.password.bytes(), credentials.password_age), ("web", b"a b".as_slice(), 30));
        assert!(!format!("{credentials:?}").contains("a b"), "{credentials:?}");
    }

    #[test]
    fn words_are_read_as_a_shell_reads_them() {
        for (written, meant) in [
            ("password=plain", "plain"),
            ("  export   password=\"s3cret'\\$(id) word\"  # note", "s3cret'$(id) word"),
            ("password='$(id)`x`\\'", "$(id)`x`\\"),
            ("password=a'b c'\"d e\"\\ f", "ab cd e f"),
            ("export username=x password=y; export uid=3", "y"),
            ("password=\"a\\\\b\\c\"", "a\\b\\c"),
            ("password=100%$", "100%$"),
            ("password=\"cost $ 5\"", "cost $ 5"),
            ("password=a#b", "a#b"),
            ("password=one\npassword=two\r\n", "two"),
            ("password=", ""),
        ] {
            assert_eq!(password(written).as_deref(), Ok(meant), "{written}");
        }
    }

    #[test]
    fn what_would_have_to_be_executed_is_refused_without_showing_it() {
        for (written, line) in [
            ("password=$(cat /hush)", 1),
            ("\npassword=\"$HUSH\"", 2),
            ("password=`hush`", 1),
            ("password=$'hush'", 1),
            ("password='hush", 1),
            ("password=\"hush", 1),
            ("source /etc/hush", 1),
            ("if true; then password=x; fi", 1),
            ("password=a|hush", 1),
            ("username=x hush", 1),
            ("password=a\u{7}", 1),
            ("password=hush\\", 1),
        ] {
            let (at, why) = password(written).unwrap_err();
            assert_eq!(at, line, "{written}");
            assert!(!why.contains("hush"), "{why}");
        }
    }
}
