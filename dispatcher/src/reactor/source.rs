//! What a poller watches: listeners, streams of all kinds, datagram sockets.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;

use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UdpSocket, UnixListener, UnixStream};
use mio::unix::SourceFd;
use mio::unix::pipe;
use mio::{Interest, Registry, Token};

use super::limits::is_readable;

/// Something that accepts connections.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Listener {
    pub(super) fn tcp(address: SocketAddr) -> io::Result<(Self, SocketAddr)> {
        let listener = TcpListener::bind(address)?;
        super::limits::let_wait(&listener)?;
        let address = listener.local_addr()?;
        Ok((Listener::Tcp(listener), address))
    }

    pub(super) fn unix(path: PathBuf) -> io::Result<Self> {
        let listener = match UnixListener::bind(&path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && StdUnixStream::connect(&path).is_err() => {
                std::fs::remove_file(&path)?;
                UnixListener::bind(&path)?
            }
            other => other?,
        };
        Ok(Listener::Unix(listener, path))
    }

    pub(super) fn accept(&self) -> io::Result<(Stream, String)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                // Replies are written whole, so waiting for more to send gains nothing. Failure costs only speed.
                let _ = stream.set_nodelay(true);
                Ok((Stream::Tcp(stream), peer.to_string()))
            }
            Listener::Unix(listener, path) => {
                let (stream, _) = listener.accept()?;
                Ok((Stream::Unix(stream), format!("{}:0", path.display())))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Unix(_, path) = self {
            // Whoever finds a file left over replaces it.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Source for Listener {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Listener::Tcp(listener) => listener.register(registry, token, interests),
            Listener::Unix(listener, _) => listener.register(registry, token, interests),
        }
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Listener::Tcp(listener) => listener.reregister(registry, token, interests),
            Listener::Unix(listener, _) => listener.reregister(registry, token, interests),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Listener::Tcp(listener) => listener.deregister(registry),
            Listener::Unix(listener, _) => listener.deregister(registry),
        }
    }
}

/// Where a connection's input comes from and its output goes.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Udp(UdpSocket),
    /// Two pipes, or one of them.
    Pipes(Option<pipe::Receiver>, Option<pipe::Sender>),
    /// A file, or standard input: whatever that is, and whoever shares it. It is not made non-blocking, since that would reach everybody who has it.
    File(File),
}

/// How a stream is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    /// The poller says when there is something to read.
    Edges,
    /// There always is, up to the end: it is a file.
    Always,
}

impl Stream {
    pub(super) fn stdin() -> io::Result<Self> {
        Ok(Stream::File(File::from(io::stdin().as_fd().try_clone_to_owned()?)))
    }

    /// Whether a read that was not full has emptied it. Of a socket it has, unless its end has been announced too.
    pub(super) fn is_socket(&self) -> bool {
        matches!(self, Stream::Tcp(_) | Stream::Unix(_))
    }

    /// The socket, if it carries datagrams.
    pub(super) fn datagrams(&self) -> Option<&UdpSocket> {
        match self {
            Stream::Udp(socket) => Some(socket),
            _ => None,
        }
    }

    pub(super) fn watch(&mut self, registry: &Registry, token: Token) -> io::Result<Watched> {
        let both = Interest::READABLE | Interest::WRITABLE;
        match self {
            Stream::Tcp(stream) => stream.register(registry, token, both)?,
            Stream::Unix(stream) => stream.register(registry, token, both)?,
            Stream::Udp(socket) => socket.register(registry, token, both)?,
            Stream::Pipes(reader, writer) => {
                if let Some(reader) = reader {
                    reader.register(registry, token, Interest::READABLE)?;
                }
                if let Some(writer) = writer {
                    writer.register(registry, token, Interest::WRITABLE)?;
                }
            }
            Stream::File(file) => match SourceFd(&file.as_raw_fd()).register(registry, token, Interest::READABLE) {
                // Files cannot be watched, and need not be.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(Watched::Always),
                other => other?,
            },
        }
        Ok(Watched::Edges)
    }

    /// Ends the watch. A descriptor that is closed is not watched any more in any case, unless somebody else has it too.
    pub(super) fn unwatch(&mut self, registry: &Registry) {
        let _ = match self {
            Stream::Tcp(stream) => stream.deregister(registry),
            Stream::Unix(stream) => stream.deregister(registry),
            Stream::Udp(socket) => socket.deregister(registry),
            Stream::Pipes(reader, writer) => {
                let read = reader.as_mut().map_or(Ok(()), |reader| reader.deregister(registry));
                read.and(writer.as_mut().map_or(Ok(()), |writer| writer.deregister(registry)))
            }
            Stream::File(file) => SourceFd(&file.as_raw_fd()).deregister(registry),
        };
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
            Stream::Udp(_) => Err(io::ErrorKind::Unsupported.into()),
            Stream::Pipes(Some(reader), _) => reader.read(buffer),
            // There is nothing to read, and never an end of it.
            Stream::Pipes(None, _) => Err(io::ErrorKind::WouldBlock.into()),
            Stream::File(file) if is_readable(file.as_fd()) => file.read(buffer),
            Stream::File(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(buffer),
            Stream::Unix(stream) => stream.write(buffer),
            Stream::Pipes(_, Some(writer)) => writer.write(buffer),
            Stream::Udp(_) | Stream::Pipes(_, None) | Stream::File(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
