//! Answers `GET /metrics` over HTTP/1.1, and as little else as possible.
//!
//! One thread accepts; each connection has a thread for the one request it may make. Whoever sends
//! too much, takes too long or makes no sense is told so and cut off; nothing that comes can do more
//! than keep one of a few threads busy for a few seconds. Nothing here touches a store but through
//! the function that makes the page.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// What one who asks may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndpointLimits {
    /// Bytes of a request.
    pub(crate) request_bytes_max: usize,
    /// How long a request may take to arrive, and then the answer to leave.
    pub(crate) time_max: Duration,
    /// Connections at a time.
    pub(crate) connections_max: usize,
}

impl Default for EndpointLimits {
    fn default() -> Self {
        EndpointLimits {
            request_bytes_max: 8 << 10,
            time_max: Duration::from_secs(5),
            connections_max: 16,
        }
    }
}

/// Headers of a request. Scrapers send about ten.
const HEADERS_MAX: usize = 64;

/// What the answer is made by.
type Page = dyn Fn() -> String + Send + Sync;

/// What the threads share.
struct Shared {
    page: Box<Page>,
    limits: EndpointLimits,
    connections: AtomicUsize,
    is_stopped: AtomicBool,
}

/// Where metrics can be asked for, until dropped.
pub(crate) struct Endpoint {
    shared: Arc<Shared>,
    address: SocketAddr,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Endpoint {
    /// Answers whoever connects to `listener` with what `page` returns, on threads named after
    /// `name`.
    ///
    /// # Errors
    /// If the socket has no address, or the system gives no thread.
    pub(crate) fn start(
        listener: TcpListener,
        name: &str,
        limits: EndpointLimits,
        page: impl Fn() -> String + Send + Sync + 'static,
    ) -> io::Result<Endpoint> {
        let address = listener.local_addr()?;
        let (connections, is_stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
        let shared = Arc::new(Shared { page: Box::new(page), limits, connections, is_stopped });
        let (accepting, name) = (Arc::clone(&shared), name.to_owned());
        let thread = Builder::new().name(name.clone());
        let thread = thread.spawn(move || accept(&listener, &name, &accepting))?;
        Ok(Endpoint { shared, address, thread: Mutex::new(Some(thread)) })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts nobody any more. Who is connected is answered, or cut off in time.
    pub(crate) fn stop(&self) {
        let Some(thread) = self.thread.lock().take() else { return };
        self.shared.is_stopped.store(true, Ordering::Release);
        // The thread sleeps in the kernel; a connection wakes it.
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        let wake = SocketAddr::new(ip, self.address.port());
        if TcpStream::connect_timeout(&wake, Duration::from_millis(200)).is_ok() {
            // A panic there was reported by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.stop();
    }
}

fn accept(listener: &TcpListener, name: &str, shared: &Arc<Shared>) {
    loop {
        let accepted = listener.accept();
        if shared.is_stopped.load(Ordering::Acquire) {
            return;
        }
        match accepted {
            Ok((stream, _)) => spawn(stream, name, shared),
            // Out of descriptors, or the other side gave up: no reason to end, nor to spin.
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// One connection more, until dropped.
struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

fn spawn(stream: TcpStream, name: &str, shared: &Arc<Shared>) {
    let before = shared.connections.fetch_add(1, Ordering::AcqRel);
    let counted = Counted(Arc::clone(shared));
    if before >= shared.limits.connections_max {
        // Fits what the system buffers: this thread does not wait for anybody.
        let _ = stream.set_nonblocking(true);
        let _ = (&stream).write_all(&Answer::of(503, "too many at a time").to_bytes(false));
        return;
    }
    let serve = move || {
        // Whoever asked sees that the connection has ended, and there is nobody else to tell.
        let _ = serve(&stream, &counted.0);
    };
    // Without a thread the connection is closed: it goes with what it was to do.
    let _ = Builder::new().name(name.to_owned()).spawn(serve);
}

fn serve(mut stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    let deadline = Instant::now() + shared.limits.time_max;
    let (answer, is_head) = match read_request(stream, shared.limits, deadline)? {
        Asked::Nothing => return Ok(()),
        Asked::Page { is_head } => (Answer { status: 200, body: (shared.page)() }, is_head),
        Asked::Wrong(answer) => (answer, false),
    };
    stream.set_write_timeout(Some(shared.limits.time_max))?;
    stream.write_all(&answer.to_bytes(is_head))?;
    // What was sent and not read would turn closing into a reset, which takes the answer back.
    stream.shutdown(Shutdown::Write)?;
    let mut rest = [0; 1024];
    for _ in 0..64 {
        if read_by(stream, &mut rest, deadline)? == 0 {
            break;
        }
    }
    Ok(())
}

/// Reads what has come, unless the time is over.
fn read_by(mut stream: &TcpStream, into: &mut [u8], deadline: Instant) -> io::Result<usize> {
    let left = deadline.saturating_duration_since(Instant::now());
    // Zero would be for ever.
    stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
    stream.read(into)
}

/// What somebody wants.
enum Asked {
    /// It went away.
    Nothing,
    Page {
        is_head: bool,
    },
    Wrong(Answer),
}

fn read_request(
    stream: &TcpStream,
    limits: EndpointLimits,
    deadline: Instant,
) -> io::Result<Asked> {
    let mut request = vec![0; limits.request_bytes_max];
    let mut len = 0;
    while len < request.len() {
        let read = match read_by(stream, &mut request[len..], deadline) {
            Ok(0) => return Ok(Asked::Nothing),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if is_late(&error) => {
                return Ok(Asked::Wrong(Answer::of(408, "the request took too long")));
            }
            Err(error) => return Err(error),
        };
        len += read;
        if let Some(asked) = parse(&request[..len]) {
            return Ok(asked);
        }
        if Instant::now() >= deadline {
            return Ok(Asked::Wrong(Answer::of(408, "the request took too long")));
        }
    }
    Ok(Asked::Wrong(Answer::of(431, "the request is too large")))
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// What a request says, as soon as it is whole or cannot become right any more.
fn parse(bytes: &[u8]) -> Option<Asked> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Partial) => return None,
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => {
            return Some(Asked::Wrong(Answer::of(431, "too many headers")));
        }
        Err(_) => return Some(Asked::Wrong(Answer::of(400, "this is not HTTP"))),
    }
    let (method, target) = (request.method.unwrap_or(""), request.path.unwrap_or(""));
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    Some(match (path, method) {
        ("/metrics", "GET") => Asked::Page { is_head: false },
        ("/metrics", "HEAD") => Asked::Page { is_head: true },
        ("/metrics", _) => Asked::Wrong(Answer::of(405, "only GET and HEAD")),
        _ => Asked::Wrong(Answer::of(404, "there is only /metrics")),
    })
}

struct Answer {
    status: u16,
    body: String,
}

impl Answer {
    fn of(status: u16, why: &str) -> Answer {
        Answer { status, body: format!("{why}\n") }
    }

    fn to_bytes(&self, is_head: bool) -> Vec<u8> {
        let (reason, more) = match self.status {
            200 => ("OK", ""),
            400 => ("Bad Request", ""),
            404 => ("Not Found", ""),
            405 => ("Method Not Allowed", "Allow: GET, HEAD\r\n"),
            408 => ("Request Timeout", ""),
            431 => ("Request Header Fields Too Large", ""),
            _ => ("Service Unavailable", "Retry-After: 1\r\n"),
        };
        let Answer { status, body } = self;
        let mut bytes = format!(
            "HTTP/1.1 {status} {reason}\r\n\
             Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
             Content-Length: {}\r\n{more}Connection: close\r\n\r\n",
            body.len()
        );
        if !is_head {
            bytes.push_str(body);
        }
        bytes.into_bytes()
    }
}
