//! What differs between two outputs, line by line.

/// Compared texts of up to so many line pairs get a minimal diff; longer ones a coarse one.
const PAIRS_MAX: usize = 4_000_000;

/// Unchanged lines shown around a change.
const CONTEXT: usize = 3;

/// A line of a diff.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line<'a> {
    Same(&'a str),
    Expected(&'a str),
    Actual(&'a str),
}

/// The lines of `expected` that are missing from `actual`, marked `-`, and those of `actual` that
/// `expected` does not have, marked `+`, with some of what surrounds them.
pub(crate) fn diff(expected: &str, actual: &str) -> String {
    let a: Vec<&str> = expected.lines().collect();
    let b: Vec<&str> = actual.lines().collect();
    render(&compare(&a, &b))
}

fn compare<'a>(a: &[&'a str], b: &[&'a str]) -> Vec<Line<'a>> {
    let head = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (rest_a, rest_b) = (&a[head..], &b[head..]);
    let tail = rest_a.iter().rev().zip(rest_b.iter().rev()).take_while(|(x, y)| x == y).count();
    let (mid_a, mid_b) = (&rest_a[..rest_a.len() - tail], &rest_b[..rest_b.len() - tail]);

    let mut lines: Vec<Line<'a>> = a[..head].iter().map(|s| Line::Same(s)).collect();
    if mid_a.len() * mid_b.len() <= PAIRS_MAX {
        longest_common(mid_a, mid_b, &mut lines);
    } else {
        lines.extend(mid_a.iter().map(|s| Line::Expected(s)));
        lines.extend(mid_b.iter().map(|s| Line::Actual(s)));
    }
    lines.extend(a[a.len() - tail..].iter().map(|s| Line::Same(s)));
    lines
}

/// The textbook longest common subsequence.
fn longest_common<'a>(a: &[&'a str], b: &[&'a str], lines: &mut Vec<Line<'a>>) {
    // common[i][j]: length of the longest common subsequence of a[i..] and b[j..].
    let width = b.len() + 1;
    let mut common = vec![0_u32; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i * width + j] = if a[i] == b[j] {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            lines.push(Line::Same(a[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == b.len()
            || (i < a.len() && common[(i + 1) * width + j] >= common[i * width + j + 1])
        {
            lines.push(Line::Expected(a[i]));
            i += 1;
        } else {
            lines.push(Line::Actual(b[j]));
            j += 1;
        }
    }
}

fn render(lines: &[Line<'_>]) -> String {
    let is_near_change = |at: usize| {
        let from = at.saturating_sub(CONTEXT);
        let to = (at + CONTEXT + 1).min(lines.len());
        lines[from..to].iter().any(|line| !matches!(line, Line::Same(_)))
    };
    let mut out = String::new();
    let mut skipping = false;
    for (at, line) in lines.iter().enumerate() {
        let (mark, text) = match line {
            Line::Same(text) => (' ', text),
            Line::Expected(text) => ('-', text),
            Line::Actual(text) => ('+', text),
        };
        if is_near_change(at) {
            out.extend([mark, ' ']);
            out.push_str(text);
            out.push('\n');
        } else if !skipping {
            out.push_str("  ...\n");
        }
        skipping = !is_near_change(at);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_changes_with_their_surroundings() {
        let expected = "1\n2\n3\n4\n5\n6\nold\n7\n8\n9\n10\n";
        let actual = "1\n2\n3\n4\n5\n6\nnew\nmore\n7\n8\n9\n10\n";
        assert_eq!(
            diff(expected, actual),
            "  ...\n  4\n  5\n  6\n- old\n+ new\n+ more\n  7\n  8\n  9\n  ...\n"
        );
    }

    #[test]
    fn finds_what_was_left_out_and_put_in() {
        assert_eq!(diff("a\nb\nc\n", "a\nc\n"), "  a\n- b\n  c\n");
        assert_eq!(diff("a\nc\n", "a\nb\nc\n"), "  a\n+ b\n  c\n");
        assert_eq!(diff("", "a\n"), "+ a\n");
        assert_eq!(diff("x\nb\ny\nd\n", "b\nz\nd\nw\n"), "- x\n  b\n- y\n+ z\n  d\n+ w\n");
    }

    #[test]
    fn huge_texts_are_compared_coarsely() {
        let lines = |c: char| (0..3000).map(|i| format!("{c}{i}\n")).collect::<String>();
        let shown = diff(&lines('a'), &lines('b'));
        assert_eq!(shown.lines().count(), 6000);
    }
}
