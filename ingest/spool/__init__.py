"""The spool: on disk, what was received and Kafka has not acknowledged yet.

No sockets and no Kafka. Other packages use `Spool` of spool.py, its `writer`, `reader` and `ledger`, and `Batch`. The
parts:

    spool.py       opens and locks the directory, and makes the parts
    batch.py       groups records into batches, and encodes them
    writer.py      appends records to the newest data file                   lock: its newest file
    cache.py       keeps the newest batches in memory                        lock: these
    ledger.py      knows the data files, and what of them waits for Kafka    lock: these, and the ledger's file
    reader.py      reads what waits, from memory or from the disk            one thread at a time
    recycler.py    reclaims data files, and reuses one                       lock: the spare file
    group_sync.py  makes all of that durable, once a second                  a thread
    recovery.py    repairs what a kill or damage has left, at the start
    data_file.py   the format of a data file

Locks are acquired in the order writer, recycler, ledger.

## On disk

Integers are big-endian in headers and in the ledger, little-endian in a batch.

    SPOOL_DIR/STREAM/
      lock                             locked (flock) while an ingest uses the spool
      state                            the ledger, 89 bytes, overwritten in place (ledger.py)
      damaged/NAME.RANDOM              a damaged ledger or data file, moved here for the operator
      spool/FIRST[-END].MARKER.bundles a data file; FIRST, END: first key and key after the last, 20 digits each;
                                       without END while it is written; MARKER: 16 hex digits (data_file.py)
      spool/spare                      an acknowledged data file, kept to be overwritten (recycler.py)

    data file = header, batch, header, batch, …      an append is one or several batches, written together
    header    = marker (8 bytes), key (8), length of the batch (4), CRC32C of the batch (4),
                1 if the next batch is of the same append, else 0 (1), zero (3), CRC32C of these 28 bytes (4)
    batch     = one or more records or chunks (batch.py), each:
                1 if rejected, else 0 (1), ms since the epoch (8), length of the headers (2), of the value (4),
                headers, value
    ledger    = "g3spool1" (8), first unacknowledged key (8), next key (8), 1 if shut down cleanly, else 0 (1),
                boot id (36), producer epoch (16) and seq (8) of the last record, CRC32C of these 85 bytes (4)

A recycled file may contain old data after its last batch; its headers have another marker, so they are not read.

## The life of a data file

Data files are only appended to, and removed as a whole. So a full disk affects only what can't be written, and a
damaged file only what can't be read.

1. Made: a new file, or the spare one under a new name, with a new marker (Recycler.new_file).
2. Written: each append adds batches, and then its keys to the ledger (Writer.append). What is read back comes from
   memory, or else from the file (Reader.read). About once a second it is synced.
3. Complete, at 16 MB, or sooner if all of it is acknowledged and its space is needed: cut to its length, END put into
   its name (Writer.complete); closed after the next sync.
4. Acknowledged, batch by batch and in any order (Ledger.acknowledge). A batch that can't be read is counted, logged
   and given up; that, too, ends its waiting.
5. Reclaimed, once complete and acknowledged as a whole: it leaves the ledger, and then becomes the spare file, or is
   deleted, or quarantined if it was damaged (Recycler.reclaim).

## What a kill leaves, and how the next start repairs it

    killed                               leaves                          the start
    before the ledger is first written   an empty ledger, no data file   takes the spool for a new one
    after a file was made                a file without a batch          reclaims it
    during an append                     an append without its end       ignores it: not all its batches are intact
    after its data, before the ledger    an append after the next key    takes it: what it ends with is intact
    before END is in the name            a name without END              takes END from the next file's name, or finds
                                                                         the last intact append; renames it
    after the ledger, before a file is   a file with keys before the     reclaims it
    reclaimed                            first unacknowledged one
    while the spare file is renamed      it has either name              deletes the spare; reclaims the other
    with the host (power cut)            what was synced, a second ago   the same; a new boot id makes the next record
                                                                         say that a tail may be lost (`unclean`)
    never: it was closed                 complete files, a clean ledger  has nothing to repair

A ledger that is damaged or missing is rebuilt from the data files: all in them is published again, and its last
record is the last one in them. Kafka may get again what was acknowledged since the ledger was written; the archiver
drops it.
"""
