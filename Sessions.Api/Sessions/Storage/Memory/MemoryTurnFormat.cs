namespace Sessions.Api;

/// <summary>
/// A turn in bytes: the lengths of its texts, what else there is to know about it, the texts. Numbers take as many bytes as they need. Its own number is its
/// place.
/// </summary>
internal static class MemoryTurnFormat
{
    private const int MostBytesOfNumbers = 8 * 10;

    [Flags]
    private enum Marks : byte
    {
        StartedSession = 1,
        HasInputTokens = 2,
        HasOutputTokens = 4,
    }

    /// <summary>How many bytes a turn takes at most.</summary>
    public static int MostBytes(Turn turn) => MostBytesOfNumbers + turn.Query.Length + turn.Response.Length;

    /// <summary>Packs a turn.</summary>
    /// <returns>How many bytes it takes of <paramref name="room"/>.</returns>
    public static int Pack(Turn turn, AgentNames agents, Span<byte> room)
    {
        var marks = (turn.StartedSession ? Marks.StartedSession : 0) | (turn.InputTokens is null ? 0 : Marks.HasInputTokens) | (turn.OutputTokens is null ? 0 : Marks.HasOutputTokens);
        var rest = room;
        Write(ref rest, turn.Query.Length);
        Write(ref rest, turn.Response.Length);
        Write(ref rest, agents.Add(turn.AgentType, turn.AgentUsed));
        Write(ref rest, turn.CreatedAt.ToMicroseconds());
        Write(ref rest, turn.ExecutionTime.Ticks / TimeSpan.TicksPerMicrosecond);
        Write(ref rest, (long)marks);
        if (turn.InputTokens is { } input)
        {
            Write(ref rest, input);
        }

        if (turn.OutputTokens is { } output)
        {
            Write(ref rest, output);
        }

        turn.Query.Span.CopyTo(rest);
        rest = rest[turn.Query.Length..];
        turn.Response.Span.CopyTo(rest);
        return room.Length - rest.Length + turn.Response.Length;
    }

    /// <summary>Unpacks the turn at the beginning of <paramref name="packed"/>, of which its texts remain a part.</summary>
    public static Turn Unpack(ReadOnlyMemory<byte> packed, int number, AgentNames agents, out int length)
    {
        var rest = packed.Span;
        var query = (int)Read(ref rest);
        var response = (int)Read(ref rest);
        var (type, used) = agents[(int)Read(ref rest)];
        var createdAt = Read(ref rest);
        var executionTime = Read(ref rest);
        var marks = (Marks)Read(ref rest);
        long? inputTokens = marks.HasFlag(Marks.HasInputTokens) ? Read(ref rest) : null;
        long? outputTokens = marks.HasFlag(Marks.HasOutputTokens) ? Read(ref rest) : null;
        var texts = packed[(packed.Length - rest.Length)..];
        length = packed.Length - texts.Length + query + response;
        return new Turn
        {
            Number = number,
            Query = new(texts[..query]),
            Response = new(texts.Slice(query, response)),
            AgentType = type,
            AgentUsed = used,
            CreatedAt = Timestamps.FromMicroseconds(createdAt),
            ExecutionTime = TimeSpan.FromTicks(executionTime * TimeSpan.TicksPerMicrosecond),
            InputTokens = inputTokens,
            OutputTokens = outputTokens,
            StartedSession = marks.HasFlag(Marks.StartedSession),
        };
    }

    /// <summary>What was asked in the turn at the beginning of <paramref name="packed"/>.</summary>
    public static Utf8Text UnpackQuery(ReadOnlyMemory<byte> packed, out int length)
    {
        var rest = packed.Span;
        var query = (int)Read(ref rest);
        var response = (int)Read(ref rest);
        SkipMiddle(ref rest);
        var start = packed.Length - rest.Length;
        length = start + query + response;
        return new(packed.Slice(start, query));
    }

    /// <summary>How many bytes the turn at the beginning of <paramref name="packed"/> takes.</summary>
    public static int Length(ReadOnlySpan<byte> packed)
    {
        var rest = packed;
        var texts = (int)Read(ref rest) + (int)Read(ref rest);
        SkipMiddle(ref rest);
        return packed.Length - rest.Length + texts;
    }

    // What lies between the lengths of the texts and the texts.
    private static void SkipMiddle(ref ReadOnlySpan<byte> rest)
    {
        Skip(ref rest);
        Skip(ref rest);
        Skip(ref rest);
        var marks = (Marks)Read(ref rest);
        if (marks.HasFlag(Marks.HasInputTokens))
        {
            Skip(ref rest);
        }

        if (marks.HasFlag(Marks.HasOutputTokens))
        {
            Skip(ref rest);
        }
    }

    private static void Skip(ref ReadOnlySpan<byte> rest)
    {
        var i = 0;
        while (rest[i] >= 0x80)
        {
            i++;
        }

        rest = rest[(i + 1)..];
    }

    // Seven bits a byte, the lowest first, a set top bit: more follow.
    private static void Write(ref Span<byte> rest, long number)
    {
        var value = (ulong)number;
        while (value >= 0x80)
        {
            rest[0] = (byte)(value | 0x80);
            rest = rest[1..];
            value >>= 7;
        }

        rest[0] = (byte)value;
        rest = rest[1..];
    }

    private static long Read(ref ReadOnlySpan<byte> rest)
    {
        ulong value = 0;
        for (var (i, shift) = (0, 0); ; i++, shift += 7)
        {
            value |= (ulong)(rest[i] & 0x7F) << shift;
            if (rest[i] < 0x80)
            {
                rest = rest[(i + 1)..];
                return (long)value;
            }
        }
    }
}

/// <summary>Names of agents, each kept once and known by a number. They come from the configuration, and so are few.</summary>
internal sealed class AgentNames
{
    private readonly Lock _lock = new();
    private volatile (string Type, string Used)[] _names = [];

    /// <summary>The names with that number.</summary>
    public (string Type, string Used) this[int number] => _names[number];

    /// <summary>The number of these names.</summary>
    public int Add(string type, string used)
    {
        var names = _names;
        for (var i = 0; i < names.Length; i++)
        {
            if (names[i].Type == type && names[i].Used == used)
            {
                return i;
            }
        }

        lock (_lock)
        {
            if (_names == names)
            {
                _names = [.. names, (type, used)];
                return names.Length;
            }
        }

        return Add(type, used);
    }
}
