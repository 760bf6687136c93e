//! What a command prints.

/// The log levels, of which only the last one silences what commands print: the core does not log.
const LEVELS: [&str; 6] = ["DEBUG", "INFO", "WARN", "ERROR", "FATAL", "NONE"];

/// Collects what a command prints.
#[derive(Debug, Default)]
pub(super) struct Output {
    text: String,
    level: usize,
}

impl Output {
    /// Adds a line.
    pub(super) fn line(&mut self, line: &str) {
        self.push(line);
        self.push("\n");
    }

    /// Adds text as it is.
    pub(super) fn push(&mut self, text: &str) {
        if !self.is_quiet() {
            self.text.push_str(text);
        }
    }

    /// Takes all that was printed so far.
    pub(super) fn take(&mut self) -> String {
        std::mem::take(&mut self.text)
    }

    /// Puts back what was taken, and after it everything printed since, each line indented.
    pub(super) fn indent_after(&mut self, before: String) {
        let inner = std::mem::replace(&mut self.text, before);
        for line in inner.lines() {
            self.text.push_str("  ");
            self.text.push_str(line);
            self.text.push('\n');
        }
    }

    /// Whether nothing is printed.
    pub(super) fn is_quiet(&self) -> bool {
        self.level == LEVELS.len() - 1
    }

    /// The level, to be put back later.
    pub(super) fn level(&self) -> usize {
        self.level
    }

    /// Puts a level back.
    pub(super) fn restore_level(&mut self, level: usize) {
        self.level = level;
    }

    /// Sets the level by name; says whether there is one of that name.
    pub(super) fn set_level(&mut self, name: &str) -> bool {
        let found = LEVELS.iter().position(|level| level.eq_ignore_ascii_case(name));
        self.level = found.unwrap_or(self.level);
        found.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_indented_ends_in_a_newline() {
        let mut out = Output::default();
        out.line("> 1");
        let before = out.take();
        out.push("a\n  b");
        out.indent_after(before);
        assert_eq!(out.take(), "> 1\n  a\n    b\n");
    }

    #[test]
    fn only_the_last_level_is_quiet() {
        let mut out = Output::default();
        assert!(out.set_level("Fatal") && !out.is_quiet());
        assert!(!out.set_level("foo") && !out.is_quiet());
        assert!(out.set_level("none") && out.is_quiet());
        out.push("x");
        assert_eq!(out.take(), "");
    }
}
