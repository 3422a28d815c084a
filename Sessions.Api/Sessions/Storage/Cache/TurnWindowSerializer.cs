using System.Buffers.Binary;
using System.Text;
using ZiggyCreatures.Caching.Fusion.Internals.Distributed;
using ZiggyCreatures.Caching.Fusion.Serialization;

namespace Sessions.Api;

/// <summary>
/// Cached turns as bytes: little-endian numbers, texts behind their length. Whatever is no such entry from its first byte to its last is refused.
/// </summary>
internal sealed class TurnWindowSerializer : IFusionCacheSerializer
{
    public static readonly TurnWindowSerializer Instance = new();

    // Counted up when the form changes: entries of another version are refused, and so are as if there were none.
    private const byte Version = 1;
    private const long None = long.MinValue;

    public byte[] Serialize<T>(T? obj) => Serialize((FusionCacheDistributedEntry<TurnWindow>)(object)obj!);

    public T? Deserialize<T>(byte[] data) => (T)(object)Deserialize(new ReadOnlyMemory<byte>(data));

    public ValueTask<byte[]> SerializeAsync<T>(T? obj, CancellationToken token = default) => new(Serialize(obj));

    public ValueTask<T?> DeserializeAsync<T>(byte[] data, CancellationToken token = default) => new(Deserialize<T>(data));

    private static byte[] Serialize(FusionCacheDistributedEntry<TurnWindow> entry)
    {
        var (stamp, turns) = (entry.Value.Stamp, entry.Value.Turns);
        var stream = new MemoryStream();
        using var writer = new BinaryWriter(stream);
        writer.Write(Version);
        writer.Write(entry.Timestamp);
        writer.Write(entry.LogicalExpirationTimestamp);
        writer.Write(stamp.Key);
        writer.Write(stamp.CreatedAt);
        writer.Write(stamp.Version);
        writer.Write(stamp.LastActivityAt);
        writer.Write(turns[0].Number);
        writer.Write(turns.Count);
        foreach (var turn in turns)
        {
            writer.Write(turn.CreatedAt.ToMicroseconds());
            writer.Write(turn.ExecutionTime.Ticks / TimeSpan.TicksPerMicrosecond);
            writer.Write(turn.InputTokens ?? None);
            writer.Write(turn.OutputTokens ?? None);
            writer.Write(turn.StartedSession ? 1 : 0);
            Write(writer, Encoding.UTF8.GetBytes(turn.AgentType));
            Write(writer, Encoding.UTF8.GetBytes(turn.AgentUsed));
            Write(writer, turn.Query.Span);
            Write(writer, turn.Response.Span);
        }

        return stream.ToArray();
    }

    private static FusionCacheDistributedEntry<TurnWindow> Deserialize(ReadOnlyMemory<byte> rest)
    {
        if (Take(ref rest, 1).Span[0] != Version)
        {
            throw new InvalidDataException("It is no entry of this version.");
        }

        var (timestamp, expires) = (Long(ref rest), Long(ref rest));
        var stamp = new SessionStamp(Long(ref rest), Long(ref rest), Long(ref rest), Long(ref rest));
        var (first, count) = (Int(ref rest), Int(ref rest));
        List<Turn> turns = [];
        for (var i = 0; i < count; i++)
        {
            turns.Add(new Turn
            {
                Number = first + i,
                CreatedAt = Timestamps.FromMicroseconds(Long(ref rest)),
                ExecutionTime = TimeSpan.FromMicroseconds(Long(ref rest)),
                InputTokens = Long(ref rest) is var input and not None ? input : null,
                OutputTokens = Long(ref rest) is var output and not None ? output : null,
                StartedSession = Int(ref rest) != 0,
                AgentType = Encoding.UTF8.GetString(Text(ref rest).Span),
                AgentUsed = Encoding.UTF8.GetString(Text(ref rest).Span),
                Query = new(Text(ref rest)),
                Response = new(Text(ref rest)),
            });
        }

        if (turns.Count == 0 || !rest.IsEmpty)
        {
            throw new InvalidDataException("It is no entry.");
        }

        return new FusionCacheDistributedEntry<TurnWindow>(new TurnWindow(stamp, turns), timestamp, expires, tags: null, metadata: null);
    }

    private static void Write(BinaryWriter writer, ReadOnlySpan<byte> text)
    {
        writer.Write(text.Length);
        writer.Write(text);
    }

    private static ReadOnlyMemory<byte> Text(ref ReadOnlyMemory<byte> rest) => Take(ref rest, Int(ref rest));

    private static long Long(ref ReadOnlyMemory<byte> rest) => BinaryPrimitives.ReadInt64LittleEndian(Take(ref rest, sizeof(long)).Span);

    private static int Int(ref ReadOnlyMemory<byte> rest) => BinaryPrimitives.ReadInt32LittleEndian(Take(ref rest, sizeof(int)).Span);

    private static ReadOnlyMemory<byte> Take(ref ReadOnlyMemory<byte> rest, int count)
    {
        if (count < 0 || count > rest.Length)
        {
            throw new InvalidDataException("It ends too early.");
        }

        var taken = rest[..count];
        rest = rest[count..];
        return taken;
    }
}
