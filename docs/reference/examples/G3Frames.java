import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.*;
import java.util.zip.CRC32C;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Prints a line for each frame of a stream, and follows it: a consumer by docs/reference/g3.frames.md alone, for Java 17.
 * java -cp 'kafka/libs/*' G3Frames.java client.properties crate1slot2 [minutes back; without: from the first record]
 */
public class G3Frames {
    private static final Set<String> KINDS = Set.of("frame", "start", "end", "connected", "lost", "quiet");

    /** A record of which the first `chunks` of n chunks are known; its offset is that of the first. */
    private record Incomplete(Map<String, String> headers, long seq, long offset, int n, List<byte[]> chunks) {}

    private final Map<String, Long> lastSeq = new HashMap<>(); // of each epoch
    private final Map<String, String> firstEpoch = new HashMap<>(); // of each spool, by its mark
    private final Map<String, Incomplete> incomplete = new HashMap<>(); // by epoch

    public static void main(String[] arguments) throws Exception {
        var config = new Properties();
        config.put("auto.offset.reset", "earliest"); // if retention overtakes us: go on with the oldest record
        config.put("allow.auto.create.topics", "false"); // a broker would create it with other settings
        config.put("max.partition.fetch.bytes", "8388608"); // several chunks by each request
        try (var file = Files.newBufferedReader(Path.of(arguments[0]))) {
            config.load(file); // bootstrap.servers, and TLS and SASL
        }
        var stream = new TopicPartition("g3.frames." + arguments[1], 0);
        try (var consumer = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            if (consumer.partitionsFor(stream.topic()).isEmpty())
                throw new IllegalArgumentException("there is no topic " + stream.topic());
            consumer.assign(List.of(stream));
            if (arguments.length > 2) {
                var since = Instant.now().minus(Duration.ofMinutes(Long.parseLong(arguments[2]))).toEpochMilli();
                var found = consumer.offsetsForTimes(Map.of(stream, since)).get(stream);
                if (found != null) consumer.seek(stream, found.offset());
                else consumer.seekToEnd(List.of(stream)); // all records are older
            }
            for (var frames = new G3Frames(); ; )
                for (var message : consumer.poll(Duration.ofSeconds(1))) frames.add(message);
        }
    }

    /** Adds the next message. Prints the frame that it completes, if any. */
    private void add(ConsumerRecord<byte[], byte[]> message) {
        var headers = new HashMap<String, String>();
        for (var it : message.headers())
            if (it.value() != null) headers.put(it.key(), new String(it.value(), StandardCharsets.US_ASCII));
        if (!"1".equals(headers.get("v")) || !KINDS.contains(headers.get("kind")))
            throw new IllegalStateException("offset " + message.offset() + ": can't read a record with " + headers);
        if (headers.containsKey("by")) return; // an operator's, which is outside the sequence
        String epoch = headers.get("epoch"), first = firstEpoch.get(epoch.substring(11));
        long seq = Long.parseLong(headers.get("seq")), last = lastSeq.getOrDefault(epoch, -1L);
        if (seq <= last || last < 0 && first != null && epoch.compareTo(first) < 0) return; // a duplicate
        if (incomplete.containsKey(epoch) && seq > incomplete.get(epoch).seq()) giveUp(epoch);
        if (headers.containsKey("prev")) giveUp(headers.get("prev").split(":")[0]); // an epoch that has ended
        var chunk = headers.getOrDefault("chunk", "1/1").split("/");
        int k = Integer.parseInt(chunk[0]), n = Integer.parseInt(chunk[1]);
        var record = incomplete.get(epoch);
        if (k == 1 && (record == null || record.seq() != seq))
            incomplete.put(epoch, record = new Incomplete(headers, seq, message.offset(), n, new ArrayList<>()));
        if (record == null || record.seq() != seq) return; // its first chunks are gone
        if (k <= record.chunks().size()) return; // a repeated chunk
        record.chunks().add(message.value() == null ? new byte[0] : message.value());
        long bytes = record.chunks().stream().mapToLong(it -> it.length).sum();
        if (k > record.chunks().size() || n != record.n() || bytes > 1 << 30) giveUp(epoch);
        else if (k == n) {
            incomplete.remove(epoch);
            lastSeq.put(epoch, seq);
            firstEpoch.putIfAbsent(epoch.substring(11), epoch);
            if (record.headers().get("kind").equals("frame")) print(record, message.timestamp(), (int) bytes);
        }
    }

    /** Gives up an epoch's incomplete record, if there is one. */
    private void giveUp(String epoch) {
        var record = incomplete.remove(epoch);
        if (record != null) lastSeq.merge(epoch, record.seq(), Math::max);
    }

    private static void print(Incomplete record, long timeMs, int bytes) {
        var frame = ByteBuffer.allocate(bytes);
        record.chunks().forEach(frame::put);
        Map<String, String> headers = record.headers();
        System.out.printf("%d %s type=%s session=%s num=%s %d bytes, CRC %s%n", record.offset(),
            Instant.ofEpochMilli(timeMs), headers.get("type"), headers.get("session"), headers.get("num"), bytes,
            isIntact(frame.flip()) ? "ok" : "WRONG");
    }

    /** Whether a frame's last four bytes are its CRC32C: of four bytes 0xFF, all names and blobs, inverted. */
    private static boolean isIntact(ByteBuffer frame) {
        frame.order(frame.get(0) == 1 ? ByteOrder.LITTLE_ENDIAN : ByteOrder.BIG_ENDIAN);
        var crc = new CRC32C();
        crc.update(new byte[] {-1, -1, -1, -1});
        int parts = 2 * frame.getInt(5); // of each key its name, then its blob
        for (frame.position(13); parts > 0; parts--) {
            int bytes = (int) frame.getLong();
            crc.update(frame.slice(frame.position(), bytes));
            frame.position(frame.position() + bytes);
        }
        return frame.getInt() == (int) ~crc.getValue() && !frame.hasRemaining();
    }
}
