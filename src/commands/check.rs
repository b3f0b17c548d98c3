//! `optimist check`: mistakes and warnings of programs that are not run.

use optimist::flowgraph::{Diagnostic, check};

use super::{Failure, print, read_source, show};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The programs
    #[arg(required = true)]
    files: Vec<String>,
    /// Print the diagnostics as JSON, one array over all files
    #[arg(long)]
    json: bool,
}

pub(crate) fn command(args: &Args) -> Result<(), Failure> {
    let mut failed = false;
    let mut all = Vec::new();
    for file in &args.files {
        let source = read_source(file)?;
        let diagnostics = check(&source, &[]);
        failed |= diagnostics.iter().any(Diagnostic::is_error);
        if args.json {
            all.extend(diagnostics.iter().map(|diagnostic| diagnostic.to_json(&source)));
        } else {
            show(&source, &diagnostics);
        }
    }
    if args.json {
        print(&format!("{}\n", serde_json::Value::Array(all)))?;
    }
    if failed { Err(Failure::Silent) } else { Ok(()) }
}
