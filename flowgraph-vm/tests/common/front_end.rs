//! What must hold of any text at all. Shared by the tests and the fuzz targets.

use optimist_flowgraph::flowgraph::print;
use optimist_flowgraph::flowgraph::verify::well_formed;
use optimist_flowgraph::syntax::token::tokenize;
use optimist_flowgraph::{Source, check, compile, fmt};

/// All that can be done with a text. If it is a program, formatting must keep it one, and the same one.
pub(crate) fn try_everything(text: &str) {
    let source = Source::new("fuzz.flow", text);
    let diagnostics = check(&source, &[]);
    for diagnostic in &diagnostics {
        let shown = diagnostic.render(&source, false);
        assert!(shown.contains(&diagnostic.message), "{shown}");
        diagnostic.to_json(&source);
    }
    let program = compile(&source).ok();
    if let Some(program) = &program {
        well_formed(program).unwrap_or_else(|rule| panic!("{rule}\n{text}"));
        let printed = print::program(program, |_, _| None);
        let again = compile(&Source::new("printed.flow", printed.clone()))
            .unwrap_or_else(|_| panic!("{text}\nprinted as\n{printed}"));
        assert_eq!(print::program(&again, |_, _| None), printed, "{text}");
    }
    let Ok(once) = fmt(&source) else {
        assert!(program.is_none());
        return;
    };
    let formatted = Source::new("formatted.flow", once.clone());
    let twice = fmt(&formatted).unwrap_or_else(|_| panic!("{text}\nformatted as\n{once}"));
    assert_eq!(once, twice, "{text}");
    let comments = |text: &str| {
        let tokens = tokenize(text);
        tokens.comments.iter().map(|comment| text[comment.span.range()].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(comments(text), comments(&once), "{text}\nformatted as\n{once}");
    let codes = |source| check(source, &[]).iter().map(|d| d.message.clone()).collect::<Vec<_>>();
    let (mut before, mut after) = (codes(&source), codes(&formatted));
    before.sort();
    after.sort();
    assert_eq!(before, after, "{text}\nformatted as\n{once}");
    if let Some(program) = &program {
        let formatted = compile(&formatted).expect("has no mistakes");
        assert_eq!(
            print::program(program, |_, _| None),
            print::program(&formatted, |_, _| None),
            "{text}\nformatted as\n{once}"
        );
    }
}
