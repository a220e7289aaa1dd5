//! The nearest known name, for hints.

/// The candidate most similar to `word`, when it is similar enough to be meant. Case does not count.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let length = word.chars().count();
    // Longer than any name here: not a slip of the finger, and not worth the quadratic comparison.
    if length == 0 || length > 128 {
        return None;
    }
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_lowercase()), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= (length.max(candidate.chars().count()) / 3).max(1))
        .map(|(_, candidate)| candidate)
}

/// Edit distance with swapped neighbours as one edit.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let width = right.len() + 1;
    let mut before: Vec<usize> = vec![0; width];
    let mut above: Vec<usize> = (0..width).collect();
    for row in 1..=left.len() {
        let mut current = vec![row; width];
        for column in 1..width {
            let differs = usize::from(left[row - 1] != right[column - 1]);
            let mut best = (above[column - 1] + differs).min(above[column] + 1).min(current[column - 1] + 1);
            if row > 1 && column > 1 && left[row - 1] == right[column - 2] && left[row - 2] == right[column - 1] {
                best = best.min(before[column - 2] + 1);
            }
            current[column] = best;
        }
        before = std::mem::replace(&mut above, current);
    }
    above[width - 1]
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
