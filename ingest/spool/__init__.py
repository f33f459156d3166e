"""The spool: on disk, what was received and Kafka has not acknowledged yet.

No sockets and no Kafka. Other packages use `Spool` of spool.py.

On disk (integers are big-endian in headers and in the ledger, little-endian in a batch):

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
"""
