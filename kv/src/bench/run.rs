//! A run from its options to its report.

use std::fs;
use std::io::{self, Write as _};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use super::client::Client;
use super::direct::Direct;
use super::driver::{self, Load, Port};
use super::environment::Environment;
use super::floor::Floor;
use super::options::{BenchOptions, Workload};
use super::progress::Progress;
use super::report::{Point, Report};
use super::verify::{self, Store, Verdict};
use super::wire::Wire;
use super::{BenchError, LocalCluster};

/// Measures what the options say; prints the table and writes the files.
///
/// # Errors
/// See [`BenchError`]: also if everything was measured, but an acknowledged write is missing.
pub fn run(options: &BenchOptions) -> Result<(), BenchError> {
    let report = match &options.addr[..] {
        [] => in_process(options)?,
        addresses => elsewhere(options, addresses)?,
    };
    write(options.json.as_deref(), || format!("{:#}\n", report.json()))?;
    write(options.html.as_deref(), || report.html())?;
    let mut out = io::stdout().lock();
    // Nobody may be reading, which makes the files no worse.
    let _ = out.write_all(report.table().as_bytes()).and_then(|()| out.flush());
    match report.verdict.wrong.len() {
        0 => Ok(()),
        lost => Err(BenchError::Missing(lost)),
    }
}

fn write(path: Option<&Path>, text: impl FnOnce() -> String) -> Result<(), BenchError> {
    let Some(path) = path else { return Ok(()) };
    let failed = |source| BenchError::File { path: path.to_owned(), source };
    fs::write(path, text()).map_err(failed)
}

/// A directory of ours, removed in the end.
struct Data(PathBuf);

impl Data {
    fn create(path: &Path) -> Result<Data, BenchError> {
        let failed = |source| BenchError::File { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(failed)?;
        if fs::read_dir(path).map_err(failed)?.next().is_some() {
            return Err(BenchError::NotEmpty(path.to_owned()));
        }
        Ok(Data(path.to_owned()))
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            log::warn!("{}: {error}", self.0.display());
        }
    }
}

fn in_process(options: &BenchOptions) -> Result<Report, BenchError> {
    let data = Data::create(&options.data)?;
    let environment = Environment::read(&data.0);
    let floor = floor(&data.0)?;
    let stores = u64::from(options.stores);
    let cluster = LocalCluster::start(&data.0, stores, options.sync, |_| {})?;
    let address = [cluster.address()];
    let mut connect = |clients| -> Result<Box<dyn Port + '_>, BenchError> {
        match options.workload {
            Workload::Commit => Ok(Box::new(Direct::new(cluster.leader()))),
            _ => Ok(Box::new(Wire::connect(&address, clients)?)),
        }
    };
    let measured = measure(options, &address, &mut connect);
    let stopped = cluster.stop();
    let (points, verdict) = measured?;
    stopped?;
    let (options, subject) = (options.clone(), options.subject());
    Ok(Report { options, environment, subject, floor: Some(floor), points, verdict })
}

fn floor(path: &Path) -> Result<Floor, BenchError> {
    Floor::measure(path).map_err(|source| BenchError::File { path: path.to_owned(), source })
}

fn elsewhere(options: &BenchOptions, names: &[String]) -> Result<Report, BenchError> {
    let addresses: Vec<SocketAddr> =
        names.iter().map(|name| resolve(name)).collect::<Result<_, _>>()?;
    let environment = Environment::read(Path::new("."));
    let synced = match Store::connect(addresses[0])?.parameter("appendfsync").as_deref() {
        Some("always") => "synced",
        Some(_) => "NOT SYNCED",
        None => "whether they sync is unknown",
    };
    let mut connect = |clients| -> Result<Box<dyn Port>, BenchError> {
        Ok(Box::new(Wire::connect(&addresses, clients)?))
    };
    let (points, verdict) = measure(options, &addresses, &mut connect)?;
    let (subject, options) = (format!("{}, {synced}", options.subject()), options.clone());
    Ok(Report { options, environment, subject, floor: None, points, verdict })
}

fn resolve(name: &str) -> Result<SocketAddr, BenchError> {
    let failed = |why: String| BenchError::Address { address: name.to_owned(), why };
    let mut found = name.to_socket_addrs().map_err(|error| failed(error.to_string()))?;
    found.next().ok_or_else(|| failed("no address".into()))
}

type Connect<'a, 'p> = &'a mut dyn FnMut(usize) -> Result<Box<dyn Port + 'p>, BenchError>;

/// Measures each number of clients, and reads back what they wrote.
fn measure(
    options: &BenchOptions,
    addresses: &[SocketAddr],
    connect: Connect<'_, '_>,
) -> Result<(Vec<Point>, Verdict), BenchError> {
    let (mut points, mut verdict) = (Vec::new(), Verdict::default());
    let batch = usize::from(options.batch);
    let load = Load {
        workload: options.workload,
        batch,
        rate: options.rate.map(f64::from),
        warm_up: options.warm_up,
        duration: options.duration,
    };
    for &count in &options.clients {
        let count = usize::from(count);
        // Keys that nobody else has, today or later.
        let run = fastrand::u64(..);
        let client = |n| Client::new(run, n, batch, options.payload as usize);
        let mut clients: Vec<Client> = (0..count).map(client).collect();
        let mut port = connect(count)?;
        if matches!(options.workload, Workload::Get | Workload::Mixed) {
            driver::fill(&mut *port, &mut clients, batch)?;
        }
        let name = format!("{count} clients");
        let mut progress = Progress::new(&name, options.duration);
        let measured = driver::measure(&mut *port, &mut clients, load, &mut progress);
        progress.finish();
        points.push(Point { clients: count, measured: measured? });
        drop(port);
        // By another store than the one that was asked, if there is one.
        let reader = addresses[addresses.len() - 1];
        let found = verify::verify(reader, &clients)?;
        verdict.acknowledged += found.acknowledged;
        verdict.keys += found.keys;
        verdict.wrong.extend(found.wrong);
        if verdict.wrong.is_empty() {
            verify::remove(reader, &clients)?;
        }
    }
    Ok((points, verdict))
}
