//! The grammar of scripts: directives, their input, and the output they should have.
//!
//! ```text
//! # a comment
//! command key key=value key=(v1, v2)      ◄ the directive; a trailing \ continues it
//! input, any number of lines              ◄ trimmed as a whole
//! ----
//! output, up to the first blank line      ◄ or between two pairs of ---- , blank lines and all
//!
//! ```
//!
//! Reading is separate from running: a file that cannot be read fails before its first command
//! runs. Arguments keep their order and may repeat, since commands give both a meaning.

use std::fmt;
use std::ops::Range;

/// The line between a directive's input and its output.
pub(crate) const SEPARATOR: &str = "----";

/// A script that was read without fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    /// Its directives in order; subtests are flattened, their marks checked and dropped.
    pub(crate) directives: Vec<Directive>,
    /// The lines of the file, for [`Script::rewritten`].
    lines: Vec<String>,
}

/// A command with everything that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Directive {
    /// Number of the line the command is on, from 1.
    pub(crate) line: usize,
    /// The first word.
    pub(crate) command: String,
    /// The other words.
    pub(crate) args: Vec<Arg>,
    /// The lines before the separator, trimmed as a whole.
    pub(crate) input: String,
    /// What the script says the command answers; every line ends in a newline.
    pub(crate) expected: String,
    /// The lines from the separator to the last one of the output, empty where both are missing.
    block: Range<usize>,
}

/// `key`, `key=value` or `key=(values)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arg {
    /// Up to the first space or `=`.
    pub(crate) key: String,
    /// None for a bare key; one, the empty string, for `key=` and `key=()`.
    pub(crate) values: Vec<String>,
}

/// Why a script could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// Number of the offending line, from 1.
    pub(crate) line: usize,
    /// What is wrong with it.
    pub(crate) reason: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for Malformed {}

impl Script {
    /// Reads a whole script.
    ///
    /// # Errors
    /// If a directive does not parse, a subtest is not opened and closed properly, or something
    /// follows the end of an output in the long form.
    pub(crate) fn parse(text: &str) -> Result<Script, Malformed> {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let mut reader = Reader { lines: &lines, at: 0, subtests: Vec::new() };
        let mut directives = Vec::new();
        while let Some(directive) = reader.directive()? {
            directives.push(directive);
        }
        if let Some((line, name)) = reader.subtests.pop() {
            return Err(Malformed { line, reason: format!("subtest {name} has no end") });
        }
        Ok(Script { directives, lines })
    }

    /// The text of the script with the outputs of some directives, named by their position,
    /// replaced. Everything else stays as it is written.
    #[must_use]
    pub(crate) fn rewritten(&self, outputs: &[(usize, String)]) -> String {
        let mut text = String::new();
        let mut at = 0;
        for (position, output) in outputs {
            let block = &self.directives[*position].block;
            self.lines[at..block.start].iter().for_each(|line| push_line(&mut text, line));
            write_output(&mut text, output);
            at = block.end;
            // What ends an output in the short form may have spaces in it; the long form minds.
            if self.lines.get(at).is_some_and(|line| line.trim().is_empty()) {
                push_line(&mut text, "");
                at += 1;
            }
        }
        self.lines[at..].iter().for_each(|line| push_line(&mut text, line));
        text
    }
}

/// Adds an output in the short form if that can hold it, else in the long one.
fn write_output(text: &mut String, output: &str) {
    let needs_long_form = output.lines().any(|line| line.trim().is_empty())
        || output.lines().next() == Some(SEPARATOR);
    let fence = if needs_long_form { "----\n----\n" } else { "----\n" };
    text.push_str(fence);
    text.push_str(output);
    if !output.is_empty() && !output.ends_with('\n') {
        text.push('\n');
    }
    if needs_long_form {
        text.push_str(fence);
    }
}

/// Where reading is.
struct Reader<'a> {
    lines: &'a [String],
    /// The next line to read, from 0.
    at: usize,
    /// The subtests that are open: the line and the name of each.
    subtests: Vec<(usize, String)>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let line = self.lines.get(self.at)?;
        self.at += 1;
        Some(line)
    }

    /// Reads on to the end of the next directive that is not a subtest's mark.
    fn directive(&mut self) -> Result<Option<Directive>, Malformed> {
        while let Some(first) = self.next() {
            let line = self.at;
            let first = first.trim();
            if first.is_empty() || first.starts_with('#') {
                continue;
            }
            let text = self.continued(first)?;
            let (command, args) = parse_line(&text).map_err(|reason| Malformed { line, reason })?;
            if command == "subtest" {
                self.subtest(&args).map_err(|reason| Malformed { line, reason })?;
                continue;
            }
            let input = self.input();
            let (expected, block) = self.expected()?;
            return Ok(Some(Directive { line, command, args, input, expected, block }));
        }
        Ok(None)
    }

    /// A directive's whole line, with the lines it goes on in.
    fn continued(&mut self, first: &str) -> Result<String, Malformed> {
        let mut text = first.to_owned();
        while text.ends_with('\\') {
            text.pop();
            let Some(more) = self.next() else {
                let reason = "the line goes on, but the file ends".to_owned();
                return Err(Malformed { line: self.at, reason });
            };
            text.push(' ');
            text.push_str(more.trim());
        }
        Ok(text)
    }

    fn input(&mut self) -> String {
        let from = self.at;
        while self.lines.get(self.at).is_some_and(|line| line != SEPARATOR) {
            self.at += 1;
        }
        self.lines[from..self.at].join("\n").trim().to_owned()
    }

    /// The output that follows, and where it stands with its separators.
    fn expected(&mut self) -> Result<(String, Range<usize>), Malformed> {
        let from = self.at;
        if self.next().is_none() {
            return Ok((String::new(), from..from));
        }
        let mut output = String::new();
        if self.lines.get(self.at).is_some_and(|line| line == SEPARATOR) {
            self.at += 1;
            self.long_output(&mut output)?;
            return Ok((output, from..self.at));
        }
        while let Some(line) = self.lines.get(self.at).filter(|line| !line.trim().is_empty()) {
            push_line(&mut output, line);
            self.at += 1;
        }
        Ok((output, from..self.at))
    }

    /// Reads to behind the closing pair of separators, which only a blank line may follow. A file
    /// that ends before them ends the output.
    fn long_output(&mut self, output: &mut String) -> Result<(), Malformed> {
        while let Some(line) = self.next() {
            if line != SEPARATOR {
                push_line(output, line);
                continue;
            }
            let Some(second) = self.next() else {
                push_line(output, line);
                break;
            };
            if second != SEPARATOR {
                push_line(output, line);
                push_line(output, second);
                continue;
            }
            if self.lines.get(self.at).is_some_and(|after| !after.is_empty()) {
                let reason = "a blank line must follow the closing pair of ----".to_owned();
                return Err(Malformed { line: self.at + 1, reason });
            }
            break;
        }
        Ok(())
    }

    /// Opens or closes a subtest.
    fn subtest(&mut self, args: &[Arg]) -> Result<(), String> {
        let words: Vec<&str> = args.iter().map(|arg| arg.key.as_str()).collect();
        if args.iter().any(|arg| !arg.values.is_empty()) {
            return Err("a subtest's name has no value".to_owned());
        }
        match words[..] {
            ["end"] | ["end", _] => {
                let Some((_, open)) = self.subtests.pop() else {
                    return Err("subtest end without a start".to_owned());
                };
                match words.get(1) {
                    Some(name) if *name != open => Err(format!("subtest {open} ends as {name}")),
                    _ => Ok(()),
                }
            }
            [name] => {
                if let Some((_, outer)) = self.subtests.last()
                    && !name.strip_prefix(outer.as_str()).is_some_and(|s| s.starts_with('/'))
                {
                    return Err(format!("subtest {name} must begin with {outer}/"));
                }
                self.subtests.push((self.at, name.to_owned()));
                Ok(())
            }
            _ => Err("subtest takes a name, end, or end and a name".to_owned()),
        }
    }
}

fn push_line(output: &mut String, line: &str) {
    output.push_str(line);
    output.push('\n');
}

/// Splits a directive's line into its command and arguments.
fn parse_line(line: &str) -> Result<(String, Vec<Arg>), String> {
    let line = line.trim();
    let (command, mut rest) = until(line, &[' ']);
    if command.is_empty() {
        return Err("no command".to_owned());
    }
    let mut args = Vec::new();
    loop {
        rest = rest.trim();
        if rest.is_empty() {
            return Ok((command.to_owned(), args));
        }
        let column = line.len() - rest.len() + 1;
        let (key, after) = until(rest, &[' ', '=']);
        if key.is_empty() {
            return Err(format!("no key before = in column {column} of: {line}"));
        }
        let values;
        (values, rest) = match after.strip_prefix('=') {
            None => (Vec::new(), after),
            Some(list) if list.starts_with('(') => parse_list(list)
                .ok_or_else(|| format!("unclosed ( after {key}= in column {column} of: {line}"))?,
            Some(value) => {
                let (value, after) = until(value, &[' ']);
                (vec![value.to_owned()], after)
            }
        };
        args.push(Arg { key: key.to_owned(), values });
    }
}

/// Splits before the first of `ends`.
fn until<'a>(text: &'a str, ends: &[char]) -> (&'a str, &'a str) {
    text.split_at(text.find(ends).unwrap_or(text.len()))
}

/// The values between the outermost parentheses, and what follows; `None` if they don't close.
/// Spaces after a comma are not part of a value; those after the parenthesis are.
fn parse_list(text: &str) -> Option<(Vec<String>, &str)> {
    let mut values: Vec<String> = Vec::new();
    let mut depth = 0;
    let mut from = 1;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && c == ',') {
            let value = &text[from..at];
            let value = if values.is_empty() { value } else { value.trim_start_matches(' ') };
            values.push(value.to_owned());
            from = at + 1;
        }
        if depth == 0 {
            return Some((values, &text[from..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(text: &str) -> Directive {
        let mut script = Script::parse(text).unwrap();
        assert_eq!(script.directives.len(), 1, "{script:?}");
        script.directives.remove(0)
    }

    fn args(line: &str) -> Vec<(String, Vec<String>)> {
        let parsed = one(&format!("{line}\n----\nok\n")).args;
        parsed.into_iter().map(|arg| (arg.key, arg.values)).collect()
    }

    fn arg(key: &str, values: &[&str]) -> (String, Vec<String>) {
        (key.to_owned(), values.iter().map(|&v| v.to_owned()).collect())
    }

    fn refusal(text: &str) -> String {
        Script::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn comments_and_blank_lines_stand_between_directives() {
        let script =
            Script::parse("# c\n\n  # d\n  foo 1  \n----\nok\n\n\n#e\nbar\n----\nb\n").unwrap();
        let commands: Vec<_> =
            script.directives.iter().map(|d| (d.line, d.command.as_str())).collect();
        assert_eq!(commands, [(4, "foo"), (10, "bar")]);
        assert_eq!(script.directives[0].args, [Arg { key: "1".into(), values: vec![] }]);
    }

    #[test]
    fn a_hash_inside_a_line_is_data() {
        assert_eq!(args("propose 1 a#b #c"), [arg("1", &[]), arg("a#b", &[]), arg("#c", &[])]);
    }

    #[test]
    fn a_backslash_continues_the_directive() {
        let d = one("foo \\\n   a=1 \\\n b\ninput\n----\nok\n");
        assert_eq!(d.line, 1);
        let keys: Vec<_> = d.args.iter().map(|arg| arg.key.as_str()).collect();
        assert_eq!((keys, d.input.as_str()), (vec!["a", "b"], "input"));
        assert_eq!(refusal("foo\\\na\\"), "line 2: the line goes on, but the file ends");
    }

    #[test]
    fn arguments_keep_order_repeats_and_quotes() {
        assert_eq!(
            args(r#"c   2 b=x,y"z 2  k= "foo" b= "#),
            [
                arg("2", &[]),
                arg("b", &["x,y\"z"]),
                arg("2", &[]),
                arg("k", &[""]),
                arg("\"foo\"", &[]),
                arg("b", &[""]),
            ]
        );
    }

    #[test]
    fn lists_split_at_top_level_commas() {
        assert_eq!(args("c v=(1,  2 ,3) w=4"), [arg("v", &["1", "2 ", "3"]), arg("w", &["4"])]);
        assert_eq!(args("c v=((1,2),f(3, 4),)"), [arg("v", &["(1,2)", "f(3, 4)", ""])]);
        assert_eq!(args("c v=() w=( 1)x"), [arg("v", &[""]), arg("w", &[" 1"]), arg("x", &[])]);
        assert_eq!(args("c v=(1 2 3)"), [arg("v", &["1 2 3"])]);
        assert_eq!(args("c v=a=b(1"), [arg("v", &["a=b(1"])]);
    }

    #[test]
    fn a_directive_that_does_not_parse_fails_the_file() {
        assert_eq!(
            refusal("\nc v=(1,(2)\n----\n"),
            "line 2: unclosed ( after v= in column 3 of: c v=(1,(2)"
        );
        assert_eq!(refusal("c a =1\n----\n"), "line 1: no key before = in column 5 of: c a =1");
    }

    #[test]
    fn input_runs_to_the_separator_with_comments_and_blank_lines() {
        let d = one("c\n\n# x\n  y \n ----\n\n----\nok\n");
        assert_eq!(d.input, "# x\n  y \n ----");
        assert_eq!(one("c\nend of file").input, "end of file");
        assert_eq!(one("c\nend of file").expected, "");
    }

    #[test]
    fn output_ends_at_a_blank_line_or_the_end_of_the_file() {
        assert_eq!(one("c\n----\n a \nb\n \t\n").expected, " a \nb\n");
        assert_eq!(one("c\n----\na\n----\nb").expected, "a\n----\nb\n");
        assert_eq!(one("c\n----\n\n").expected, "");
        assert_eq!(one("c\n----").expected, "");
    }

    #[test]
    fn the_long_form_holds_blank_lines_and_lone_separators() {
        assert_eq!(one("c\n----\n----\na\n\n----\nb\n----\n----\n\n").expected, "a\n\n----\nb\n");
        assert_eq!(one("c\n----\n----\na\n----\n----").expected, "a\n");
        assert_eq!(one("c\n----\n----\na\n----").expected, "a\n----\n");
        let text = "c\n----\n----\na\n----\n----\nd\n----\n";
        assert_eq!(refusal(text), "line 7: a blank line must follow the closing pair of ----");
    }

    #[test]
    fn subtests_nest_and_must_be_closed() {
        let text = "subtest a\nc\n----\n\nsubtest a/b\nd\n----\n\nsubtest end a/b\nsubtest end\n";
        assert_eq!(Script::parse(text).unwrap().directives.len(), 2);
        assert_eq!(refusal("subtest a\nsubtest b"), "line 2: subtest b must begin with a/");
        assert_eq!(refusal("subtest a\nsubtest ab"), "line 2: subtest ab must begin with a/");
        assert_eq!(refusal("subtest a\nsubtest end b"), "line 2: subtest a ends as b");
        assert_eq!(refusal("\nsubtest a\nc\n----\n"), "line 2: subtest a has no end");
        assert_eq!(refusal("subtest end"), "line 1: subtest end without a start");
        assert_eq!(refusal("subtest"), "line 1: subtest takes a name, end, or end and a name");
    }

    #[test]
    fn rewriting_replaces_outputs_and_nothing_else() {
        let text = "# top\nfoo 1 \\\n  2\n  in\n----\nold\n\n\nbar\n----\nkept\n\nbaz\n----\n----\nx\n\n----\n----\n\n# end\nqux\n";
        let script = Script::parse(text).unwrap();
        assert_eq!(script.rewritten(&[]), text);
        let outputs = [(0, "a\n\nb\n".to_owned()), (2, "new\n".to_owned()), (3, "ok".to_owned())];
        let rewritten = script.rewritten(&outputs);
        assert_eq!(
            rewritten,
            "# top\nfoo 1 \\\n  2\n  in\n----\n----\na\n\nb\n----\n----\n\n\nbar\n----\nkept\n\nbaz\n----\nnew\n\n# end\nqux\n----\nok\n"
        );
        let again = Script::parse(&rewritten).unwrap();
        let outputs: Vec<_> = again.directives.iter().map(|d| d.expected.as_str()).collect();
        assert_eq!(outputs, ["a\n\nb\n", "kept\n", "new\n", "ok\n"]);
    }

    /// Text made of what the grammar gives a meaning to.
    fn text() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "----", "\n", "\n", "\n", " ", "#", "\\", "subtest", "end", "(", ")", ",", "=", "a",
            "é", "/",
        ]);
        prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in text()) {
            if let Ok(script) = Script::parse(&text) {
                // Read again after everything was answered, it has the same directives.
                let answers = |d: &Directive| format!("{}\n\n----\nb\n", d.command);
                let outputs: Vec<(usize, String)> =
                    script.directives.iter().map(answers).enumerate().collect();
                let again = Script::parse(&script.rewritten(&outputs));
                let again = again.map_err(|e| TestCaseError::fail(e.to_string()))?;
                prop_assert_eq!(again.directives.len(), script.directives.len());
                for (before, after) in script.directives.iter().zip(&again.directives) {
                    prop_assert_eq!((&before.command, &before.args), (&after.command, &after.args));
                    prop_assert_eq!(&after.expected, &answers(before));
                }
            }
        }
    }
}
