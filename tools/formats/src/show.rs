// SPDX-License-Identifier: GPL-2.0
//! What the program prints: tables for people, JSON for programs.

use std::fmt::Write;

use serde_json::{json, Value};

use crate::check::Verdict;
use crate::compare::Changes;
use crate::fields::{Field, Struct};
use crate::shared::catalogue::{KHO_ON, LUO_ON};
use crate::side::{Origin, Side};

/// A table with columns as wide as they must be.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // A String takes everything.
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn layout_text(layout: Option<u32>) -> String {
    layout.map_or("-".into(), |layout| format!("{layout:08x}"))
}

/// What a kernel has.
pub fn side(side: &Side) -> String {
    let release = match side.release.as_str() {
        "" => String::new(),
        release => format!(", release {release}"),
    };
    let mut text = format!(
        "{}: {}{release}, {}\n",
        side.name,
        side.kind,
        side.origin.text()
    );
    if matches!(side.origin, Origin::Catalogue | Origin::Running) {
        let on = |flag| if side.flags & flag != 0 { "on" } else { "off" };
        let (kho, luo) = (on(KHO_ON), on(LUO_ON));
        let _ = writeln!(
            text,
            "unless its command line says otherwise: kho={kho} liveupdate={luo}"
        );
    }
    let mut rows = vec![["format", "version", "access", "layout"]
        .map(String::from)
        .to_vec()];
    rows.extend(side.formats.iter().map(|format| {
        vec![
            format.name.clone(),
            format.version.to_string(),
            format.access().into(),
            layout_text(format.layout),
        ]
    }));
    text + &table(&rows)
}

/// What formats that are structs consist of.
pub fn structs(structs: &[Struct]) -> String {
    let head = ["format", "version", "field", "type", "offset", "bytes"];
    let mut rows = vec![head.map(String::from).to_vec()];
    for of in structs {
        rows.extend(of.fields.iter().map(|field| {
            let version = of.version.to_string();
            let (name, kind) = (field.name.clone(), field.kind.clone());
            let (offset, size) = (field.offset.to_string(), field.size.to_string());
            vec![of.format.clone(), version, name, kind, offset, size]
        }));
    }
    table(&rows)
}

/// The same for programs.
pub fn structs_json(structs: &[Struct]) -> Value {
    let field = |field: &Field| {
        json!({
            "name": field.name,
            "type": field.kind,
            "offset": field.offset,
            "bytes": field.size,
        })
    };
    let of = |of: &Struct| {
        let fields: Vec<Value> = of.fields.iter().map(field).collect();
        json!({"format": of.format, "version": of.version, "fields": fields})
    };
    structs.iter().map(of).collect()
}

/// The same for programs.
pub fn side_json(side: &Side) -> Value {
    let formats = side.formats.iter().map(|format| {
        json!({
            "name": format.name,
            "version": format.version,
            "reads": format.reads,
            "writes": format.writes,
            "layout": format.layout.map(|layout| format!("{layout:08x}")),
        })
    });
    let origin = match side.origin {
        Origin::Catalogue => "catalogue",
        Origin::Release => "release",
        Origin::Assumed => "assumed",
        Origin::Module => "module",
        Origin::Running => "running",
    };
    json!({
        "image": side.name,
        "kind": side.kind,
        "release": side.release,
        "origin": origin,
        "kho": side.flags & KHO_ON != 0,
        "liveupdate": side.flags & LUO_ON != 0,
        "formats": formats.collect::<Vec<_>>(),
    })
}

/// What came of a check.
pub fn verdict(old: &Side, new: &Side, verdict: &Verdict) -> String {
    let can = if verdict.can() { "can" } else { "cannot" };
    let mut text = format!("{} {can} update to {}\n", old.name, new.name);
    for fault in &verdict.faults {
        let _ = writeln!(text, "because {fault}");
    }
    let mut rows = vec![["format", "written"].map(String::from).to_vec()];
    rows.extend(verdict.writes.iter().map(|write| {
        let older = match write.version < write.newest {
            true => format!("{} (of {})", write.version, write.newest),
            false => write.version.to_string(),
        };
        vec![write.name.clone(), older]
    }));
    if verdict.can() {
        text += &table(&rows);
    }
    for note in &verdict.notes {
        let _ = writeln!(text, "note: {note}");
    }
    text
}

/// The same for programs.
pub fn verdict_json(old: &Side, new: &Side, verdict: &Verdict) -> Value {
    let writes = verdict
        .writes
        .iter()
        .map(|write| json!({"name": write.name, "version": write.version, "newest": write.newest}));
    json!({
        "old": side_json(old),
        "new": side_json(new),
        "can": verdict.can(),
        "writes": writes.collect::<Vec<_>>(),
        "faults": verdict.faults,
        "notes": verdict.notes,
    })
}

/// What changed.
pub fn changes(old: &Side, new: &Side, changes: &Changes) -> String {
    let mut text = format!("from {} to {}\n", old.name, new.name);
    for fault in &changes.faults {
        let _ = writeln!(text, "BROKEN: {fault}");
    }
    for note in &changes.notes {
        let _ = writeln!(text, "{note}");
    }
    if changes.faults.is_empty() && changes.notes.is_empty() {
        text.push_str("the formats are the same\n");
    }
    text
}

/// All pairs: a row an old kernel, a column a new one.
pub fn matrix(sides: &[Side], verdicts: &[Vec<Verdict>]) -> String {
    let number = |at: usize| format!("[{}]", at + 1);
    let mut text = String::new();
    for (at, side) in sides.iter().enumerate() {
        let _ = writeln!(text, "{} {} {}", number(at), side.name, side.release);
    }
    text.push_str("\nfrom \\ to; \"older\" is: can, and writes an older version of something\n");
    let mut rows = vec![vec![String::new()]];
    rows[0].extend((0..sides.len()).map(number));
    for (at, row) in verdicts.iter().enumerate() {
        let cell = |verdict: &Verdict| match (verdict.can(), verdict.is_older()) {
            (false, _) => "no",
            (true, true) => "older",
            (true, false) => "yes",
        };
        let cells = row.iter().map(|verdict| cell(verdict).to_string());
        rows.push(std::iter::once(number(at)).chain(cells).collect());
    }
    text += &table(&rows);
    for (from, row) in verdicts.iter().enumerate() {
        for (to, verdict) in row.iter().enumerate() {
            for fault in &verdict.faults {
                let _ = write!(text, "\n{} to {}: {fault}\n", number(from), number(to));
            }
        }
    }
    text
}
