//! `optimist fmt`: programs in the one form.

use optimist::flowgraph::syntax::format::format;

use super::{Failure, print, read_source, reason};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The programs
    #[arg(required = true)]
    files: Vec<String>,
    /// Write nothing; exit with status 1 if a file is not formatted
    #[arg(long, conflicts_with = "stdout")]
    check: bool,
    /// Print the formatted programs instead of writing the files
    #[arg(long)]
    stdout: bool,
}

pub(crate) fn command(args: &Args) -> Result<(), Failure> {
    let mut unformatted = false;
    for file in &args.files {
        let source = read_source(file)?;
        let text = format(&source).map_err(|diagnostics| Failure::Diagnostics(source.clone(), diagnostics))?;
        if args.stdout {
            print(&text)?;
        } else if text != source.text() {
            if args.check {
                unformatted = true;
                eprintln!("{file} is not formatted");
            } else {
                replace(file, &text)?;
            }
        }
    }
    if unformatted { Err(Failure::Silent) } else { Ok(()) }
}

/// Replaces a file whole: a full disk or an interruption leaves the old one.
fn replace(file: &str, text: &str) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::Message(format!("cannot write `{file}`: {}", reason(&error)));
    let path = std::fs::canonicalize(file).map_err(failed)?;
    let mut beside = path.clone().into_os_string();
    beside.push(".new");
    let permissions = std::fs::metadata(&path).map_err(failed)?.permissions();
    let written = std::fs::write(&beside, text)
        .and_then(|()| std::fs::set_permissions(&beside, permissions))
        .and_then(|()| std::fs::rename(&beside, &path));
    written.map_err(|error| {
        // What could not be moved into place is of no use.
        let _ = std::fs::remove_file(&beside);
        failed(error)
    })
}
