import java.io.RandomAccessFile;
import java.net.InetAddress;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;

/** Counts the points of a LAS, LAZ or COPC file from its header; writes points.txt. */
public class Main {
    public static void main(String[] words) throws Exception {
        String arguments = new String(System.in.readAllBytes());
        byte[] head = new byte[375];
        try (RandomAccessFile file = new RandomAccessFile(System.getenv("GRID_INPUT"), "r")) {
            file.read(head);
        }
        ByteBuffer fields = ByteBuffer.wrap(head).order(ByteOrder.LITTLE_ENDIAN);
        long points = head[25] >= 4 ? fields.getLong(247) : Integer.toUnsignedLong(fields.getInt(107));
        Files.writeString(Path.of(System.getenv("GRID_OUTPUT"), "points.txt"), points + "\n");
        System.out.println("arguments " + arguments);
        System.out.println("home " + System.getProperty("user.home") + ", user " + System.getProperty("user.name"));
        System.out.println("host " + InetAddress.getLocalHost() + ", " + InetAddress.getByName("localhost"));
        System.out.println("processors " + Runtime.getRuntime().availableProcessors());
    }
}
