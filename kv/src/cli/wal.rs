//! `raftkv wal dump|verify|stats DIR`: what a store's log says, without changing anything.
//!
//! | command | shows |
//! |---|---|
//! | `dump` | every file, every record with its place, every group in it |
//! | `verify` | whether a start would accept it; what it would cut |
//! | `stats` | sizes, and what each region has |
//!
//! `DIR` is the directory of one store, and the verdict is that of a start, by the same decoder. A
//! directory in use is refused by the name of its user: the files would change while they are read.
//! Meanwhile no store can start there, and several may look at a time.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | a start would accept the log, perhaps cutting a torn tail that was never promised |
//! | 1 | there is no store's directory, it is in use, or cannot be read |
//! | 2 | the command line makes no sense |
//! | 3 | a start would refuse the log: it is damaged, or another program's or store's |

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use raft::HardState;
use raftstore::disk::{DirDisk, Identity, IdentityError, LockError, Route};
use raftstore::wal::{
    GroupLog, InspectedGroup, InspectedRecord, InspectedSegment, Inspection, Record, RecordKind,
    Torn, Verdict, WalError,
};

/// What to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalAction {
    /// Every record.
    Dump,
    /// Whether it is whole.
    Verify,
    /// Sizes and regions.
    Stats,
}

/// Which log, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalArgs {
    /// What to show of it.
    pub action: WalAction,
    /// A store's directory.
    pub data: PathBuf,
    /// As JSON, a value a line.
    pub json: bool,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("{0}: not the directory of a store{1}")]
    NoStore(PathBuf, String),
    #[error("{0}: in use by {1}; a log can be looked at when its store has stopped")]
    InUse(PathBuf, String),
    #[error("{0}: {1}")]
    Identity(PathBuf, IdentityError),
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    #[error("{0}")]
    Out(#[from] io::Error),
}

/// Shows the log on the standard output.
#[must_use]
pub(crate) fn run(args: &WalArgs) -> ExitCode {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let shown = show(args, &mut out).and_then(|code| Ok(out.flush().map(|()| code)?));
    match shown {
        Ok(code) => ExitCode::from(code),
        // Whoever read the output has seen enough.
        Err(Unread::Out(e)) if e.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(1),
        Err(e) => {
            // Nobody may be listening, and there is nobody else to tell.
            let _ = writeln!(io::stderr(), "raftkv: {e}");
            ExitCode::from(1)
        }
    }
}

fn show(args: &WalArgs, out: &mut dyn Write) -> Result<u8, Unread> {
    let path = &args.data;
    let io = |error| Unread::Io(path.clone(), error);
    if !path.is_dir() {
        return Err(Unread::NoStore(path.clone(), String::new()));
    }
    let disk = DirDisk::open(path, Route::Written).map_err(io)?;
    let _lock = disk.lock_to_read().map_err(|error| match error {
        LockError::Held { owner } => Unread::InUse(path.clone(), owner),
        LockError::Io(error) => io(error),
    })?;
    let identity = match Identity::read(&disk) {
        Ok(Some(identity)) => identity,
        Ok(None) => return Err(Unread::NoStore(path.clone(), hint(path))),
        Err(IdentityError::Io { source, .. }) => return Err(io(source)),
        Err(damaged @ IdentityError::Damaged { .. }) => {
            conclude(args.json, &Err(damaged.to_string()), out)?;
            return Ok(3);
        }
        Err(error) => return Err(Unread::Identity(path.clone(), error)),
    };
    let inspection = Inspection::open(&disk, &identity);
    if let (Ok(inspection), WalAction::Dump) = (&inspection, args.action) {
        dump(inspection, args.json, out)?;
    }
    let verdict = inspection
        .as_ref()
        .map_err(ToString::to_string)
        .and_then(|inspection| inspection.verdict().map_err(|error: WalError| error.to_string()));
    if let (Ok(inspection), Ok(verdict), WalAction::Stats) = (&inspection, &verdict, args.action) {
        stats(&identity, inspection, verdict, args.json, out)?;
    }
    conclude(args.json, &verdict, out)?;
    Ok(if verdict.is_ok() { 0 } else { 3 })
}

/// The directories of stores in a cluster's.
fn hint(path: &Path) -> String {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let stores = entries.filter(|entry| entry.path().join("store").is_file());
    let mut stores: Vec<String> = stores.map(|entry| entry.path().display().to_string()).collect();
    stores.sort_unstable();
    if stores.is_empty() { String::new() } else { format!("; there is {}", stores.join(", ")) }
}

/// The last line: whole, torn or damaged.
fn conclude(json: bool, verdict: &Result<Verdict, String>, out: &mut dyn Write) -> io::Result<()> {
    let torn = verdict.as_ref().ok().and_then(|verdict| verdict.recovered.torn.as_ref());
    if json {
        let (records, bytes) =
            verdict.as_ref().map_or((0, 0), |v| (v.recovered.records, v.recovered.bytes));
        let says = match verdict {
            Ok(_) if torn.is_some() => "torn",
            Ok(_) => "whole",
            Err(_) => "refused",
        };
        let torn = torn.map_or("null".to_owned(), |Torn { file, offset, bytes }| {
            format!("{{\"file\":{},\"offset\":{offset},\"bytes\":{bytes}}}", quoted(file))
        });
        let why = verdict.as_ref().err().map_or("null".to_owned(), |why| quoted(why));
        return writeln!(
            out,
            "{{\"verdict\":\"{says}\",\"records\":{records},\"bytes\":{bytes},\"torn\":{torn},\
             \"reason\":{why}}}"
        );
    }
    match (verdict, torn) {
        (Err(why), _) => writeln!(out, "refused: {why}"),
        (Ok(verdict), None) => {
            let (records, bytes) = (verdict.recovered.records, verdict.recovered.bytes);
            writeln!(out, "whole: {records} records, {bytes} bytes")
        }
        (Ok(verdict), Some(Torn { file, offset, bytes })) => {
            let records = verdict.recovered.records;
            writeln!(
                out,
                "whole up to a torn tail: {records} records; {bytes} bytes from offset {offset} of \
                 {file} were never promised"
            )
        }
    }
}

fn dump(inspection: &Inspection, json: bool, out: &mut dyn Write) -> io::Result<()> {
    for segment in inspection.segments() {
        segment_line(&segment, json, out)?;
        let mut written = Ok(());
        inspection.records(&segment, &mut |shown| {
            if written.is_ok() {
                written = record_lines(shown, json, out);
            }
        });
        written?;
    }
    Ok(())
}

fn segment_line(segment: &InspectedSegment<'_>, json: bool, out: &mut dyn Write) -> io::Result<()> {
    let InspectedSegment { name, file_bytes, header, end } = segment;
    let (first, watermark, salt) = (header.first, header.watermark, header.salt);
    if json {
        let end = end.map_or("null".to_owned(), |end| end.to_string());
        return writeln!(
            out,
            "{{\"segment\":{},\"file\":{},\"file_bytes\":{file_bytes},\"first\":{first},\
             \"watermark\":{watermark},\"salt\":{salt},\"recycled\":{},\"end\":{end}}}",
            header.segment,
            quoted(name),
            header.recycled
        );
    }
    let recycled = if header.recycled { ", used before" } else { "" };
    writeln!(
        out,
        "{name}: {file_bytes} bytes, from record {first}, durable up to {watermark}, salt \
         {salt:016x}{recycled}"
    )
}

fn record_lines(shown: &InspectedRecord, json: bool, out: &mut dyn Write) -> io::Result<()> {
    let InspectedRecord { record, groups } = shown;
    let kind = match record.kind {
        RecordKind::Whole => "whole",
        RecordKind::Begin => "begin",
        RecordKind::Continue => "continue",
        RecordKind::End => "end",
        RecordKind::Mark => "mark",
    };
    let Record { lsn, watermark, offset, .. } = record;
    let bytes = record.end() - offset;
    if json {
        let groups = match groups {
            Ok(groups) => groups.iter().map(group_json).collect::<Vec<_>>().join(","),
            Err(why) => format!("{{\"undecodable\":{}}}", quoted(&why.to_string())),
        };
        return writeln!(
            out,
            "{{\"record\":{lsn},\"watermark\":{watermark},\"kind\":\"{kind}\",\"offset\":{offset},\
             \"bytes\":{bytes},\"groups\":[{groups}]}}"
        );
    }
    writeln!(out, "  {offset:>10} record {lsn} {kind}, {bytes} bytes, durable up to {watermark}")?;
    match groups {
        Ok(groups) => {
            groups.iter().try_for_each(|group| writeln!(out, "             {}", group_text(group)))
        }
        Err(why) => writeln!(out, "             {why}"),
    }
}

fn group_text(group: &InspectedGroup) -> String {
    let mut text = format!("region {}:", group.region);
    if let Some(HardState { term, vote, commit }) = group.hard_state {
        let vote = vote.map_or("none".to_owned(), |vote| vote.to_string());
        // Writing to a string does not fail.
        let _ = write!(text, " term {term} vote {vote} commit {commit};");
    }
    if let Some(at) = group.reset {
        let _ = write!(text, " restarts after {at};");
    }
    for run in &group.runs {
        let last = run.first + u64::from(run.count) - 1;
        let carried = if group.carried { ", carried" } else { "" };
        let _ = write!(
            text,
            " entries {}..={last} of term {}, {} bytes{carried};",
            run.first, run.term, run.bytes
        );
    }
    if let Some(at) = group.compact {
        let _ = write!(text, " compacted up to {at};");
    }
    if group.remove {
        text.push_str(" removed;");
    }
    text.trim_end_matches(';').to_owned()
}

fn group_json(group: &InspectedGroup) -> String {
    let mut text = format!("{{\"region\":{}", group.region);
    if let Some(HardState { term, vote, commit }) = group.hard_state {
        let vote = vote.map_or("null".to_owned(), |vote| vote.to_string());
        let _ = write!(text, ",\"term\":{term},\"vote\":{vote},\"commit\":{commit}");
    }
    for (name, at) in [("reset", group.reset), ("compact", group.compact)] {
        if let Some(at) = at {
            let _ = write!(text, ",\"{name}\":{{\"term\":{},\"index\":{}}}", at.term, at.index);
        }
    }
    let runs = group.runs.iter().map(|run| {
        format!(
            "{{\"term\":{},\"first\":{},\"count\":{},\"bytes\":{}}}",
            run.term, run.first, run.count, run.bytes
        )
    });
    let runs: Vec<String> = runs.collect();
    let _ = write!(
        text,
        ",\"runs\":[{}],\"carried\":{},\"removed\":{}}}",
        runs.join(","),
        group.carried,
        group.remove
    );
    text
}

fn stats(
    identity: &Identity,
    inspection: &Inspection,
    verdict: &Verdict,
    json: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let segments = inspection.segments().count();
    let file_bytes: u64 = inspection.segments().map(|segment| segment.file_bytes).sum();
    let (store, cluster, live) = (identity.store, identity.cluster, verdict.live_bytes);
    if json {
        writeln!(
            out,
            "{{\"store\":{store},\"cluster\":{cluster},\"segments\":{segments},\
             \"file_bytes\":{file_bytes},\"live_bytes\":{live}}}"
        )?;
    } else {
        writeln!(out, "store {store} of cluster {cluster}")?;
        writeln!(out, "{segments} segments, {file_bytes} bytes, of which {live} are live")?;
    }
    for (region, log) in &verdict.recovered.groups {
        let GroupLog { hard_state: HardState { term, vote, commit }, compacted, terms, last } = log;
        let entries = last.saturating_sub(compacted.index);
        if json {
            let vote = vote.map_or("null".to_owned(), |vote| vote.to_string());
            writeln!(
                out,
                "{{\"region\":{region},\"term\":{term},\"vote\":{vote},\"commit\":{commit},\
                 \"compacted\":{},\"last\":{last},\"entries\":{entries},\"terms\":{}}}",
                compacted.index,
                terms.len()
            )?;
        } else {
            writeln!(
                out,
                "region {region}: {entries} entries of {} terms after {compacted}, last {last}, \
                 term {term}, commit {commit}",
                terms.len()
            )?;
        }
    }
    Ok(())
}

/// As a JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
