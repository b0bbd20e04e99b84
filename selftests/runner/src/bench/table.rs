// SPDX-License-Identifier: GPL-2.0
//! The benchmark's table: a block a cost, a line a memfd, ours beside mainline's.

use super::{Cost, Measured};

/// Prints all blocks, then what was measured with.
pub fn print(measured: &[Measured], about: &[(&str, String)]) {
    let million = |cost: u64| cost as f64 / 1e6;
    block("preserve, million instructions", measured, true, |cost| {
        million(cost.preserve)
    });
    block(
        "kexec + boot beyond an empty update, million instructions\n  (below zero: memory that is handed over need not be given to the page allocator at boot)",
        measured,
        true,
        |cost| cost.downtime() / 1e6,
    );
    block("retrieve, million instructions", measured, true, |cost| {
        million(cost.retrieve)
    });
    block("metadata, KiB", measured, false, |cost| {
        cost.metadata_bytes as f64 / 1024.0
    });
    block(
        "an empty update on the same machine, million instructions",
        measured,
        false,
        |cost| million(cost.empty),
    );
    block(
        "kexec + boot with the memfd, million instructions",
        measured,
        false,
        |cost| million(cost.loaded),
    );
    println!("measured with");
    for (name, value) in about {
        println!("  {name}: {value}");
    }
    for row in measured {
        for error in row.costs.iter().filter_map(|cost| cost.as_ref().err()) {
            println!("not measured: {}: {error}", row.row.title());
        }
    }
}

fn block(title: &str, measured: &[Measured], by_page: bool, figure: impl Fn(&Cost) -> f64) {
    let pages = if by_page {
        "  instructions a 4 KiB page"
    } else {
        ""
    };
    println!("{title}");
    println!(
        "  {:38} {:>12} {:>10} {:>10} {:>9}{pages}",
        "memfd", "struct pages", "ours", "mainline", "ratio"
    );
    for row in measured {
        let [ours, mainline] = [0, 1].map(|place| row.costs[place].as_ref().ok().map(&figure));
        let number =
            |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}"));
        let ratio = match (ours, mainline) {
            (Some(ours), Some(mainline)) if mainline > 0.0 && ours >= 0.0 => {
                format!("{:.3}", ours / mainline)
            }
            _ => "-".to_owned(),
        };
        let each = |value: Option<f64>| {
            let each = value.map(|value| value * 1e6 / row.row.pages() as f64);
            format!("{:>9}", number(each))
        };
        let by_page = match by_page {
            true => format!("  {} {}", each(ours), each(mainline)),
            false => String::new(),
        };
        println!(
            "  {:38} {:>12} {:>10} {:>10} {ratio:>9}{by_page}",
            row.row.short(),
            if row.row.deferred {
                "deferred"
            } else {
                "early"
            },
            number(ours),
            number(mainline),
        );
    }
    println!();
}
