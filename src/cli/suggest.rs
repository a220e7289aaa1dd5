//! The nearest known name, for hints.

/// The candidate most similar to `word`, when it is similar enough to be meant. Case does not count.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let length = word.chars().count();
    // Longer than any name here: not a slip of the finger, and comparing takes the square of the length.
    if length == 0 || length > 128 {
        return None;
    }
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&word, &candidate.to_lowercase()), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= (length.max(candidate.chars().count()) / 3).max(1))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_other_words_are_not() {
        let commands = ["cm_stat", "ping", "rstats", "printcfg", "help", "exit", "quit"];
        assert_eq!(nearest("cmstat", commands), Some("cm_stat"));
        assert_eq!(nearest("RSTAT", commands), Some("rstats"));
        assert_eq!(nearest("pign", commands), Some("ping"));
        assert_eq!(nearest("frobnicate", commands), None);
        assert_eq!(nearest("", commands), None);
    }
}
