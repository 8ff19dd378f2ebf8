//! The engine as a library: push rows from Rust and watch a query's answer change.
//!
//! ```sh
//! cargo run --release -p headwater-examples --bin hello
//! ```

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use headwater::{Op, OutputMode, Session, Trigger};
use headwater_examples::{Done, rows, table};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Done {
    let session = Session::builder().workers(1).build()?;
    session.execute("CREATE TABLE orders (item VARCHAR, amount BIGINT)")?;
    let query = session.sql("SELECT item, sum(amount) AS total FROM orders GROUP BY item")?;
    let totals = session.create_view("totals", &query)?;
    let mut changes = totals.subscribe(OutputMode::Changelog, Trigger::Continuous)?;

    let mut orders = session.input("orders")?;
    let schema = session.table("orders")?.schema();
    let order = |item: &str, amount: i64| {
        let columns = (Arc::new(StringArray::from(vec![item])), Arc::new(Int64Array::from(vec![amount])));
        RecordBatch::try_new(schema.clone(), vec![columns.0, columns.1])
    };
    orders.push(order("tea", 3)?)?;
    orders.push(order("milk", 1)?)?;
    orders.push(order("tea", 4)?)?;
    // A correction: the old row leaves and the new one arrives at one time, so nobody sees a total without either.
    let correction = arrow::compute::concat_batches(&schema, [&order("tea", 4)?, &order("tea", 5)?])?;
    orders.push_atomic(correction, vec![-1, 1])?;
    orders.close();

    let mut log = Vec::new();
    while let Some(emission) = changes.recv()? {
        for (row, op) in emission.ops.iter().enumerate() {
            let sign = if *op == Op::Delete { '-' } else { '+' };
            log.push(format!("{sign} {}", rows(&emission.rows.slice(row, 1))?.concat()));
        }
    }
    log.iter().for_each(|line| println!("{line}"));
    let answer = totals.snapshot()?;
    println!("{}", table(&answer)?);
    let answer = rows(&answer)?;
    assert!(answer.len() == 2 && answer[0].contains("milk | 1") && answer[1].contains("tea  | 8"), "{answer:?}");
    Ok(())
}
