using System.Buffers.Binary;
using System.Text;
using Sessions.Api.Domain;

namespace Sessions.Api.Storage;

/// <summary>
/// A turn in bytes, the one form of it that all stores use: its details, and behind them its texts. Numbers take as many bytes as they
/// need; what most turns have nothing of takes no more than a bit.
/// </summary>
/// <remarks>
/// A later version may add parts: each has a mark, and a reader that meets a mark it does not know refuses the turn. What was written once
/// is read by all later versions.
/// </remarks>
internal static class TurnCodec
{
    private const int NonceBytes = sizeof(uint);

    // Words of providers that are known by their place, from 1.
    private static readonly string[] FinishReasons = ["stop", "length", "tool_calls", "content_filter"];

    // The commonest first: seven marks fit into a byte.
    [Flags]
    private enum Parts : uint
    {
        None = 0,
        StartedSession = 1 << 0,
        Nonce = 1 << 1,
        Usage = 1 << 2,
        InputTokens = 1 << 3,
        OutputTokens = 1 << 4,
        FinishReason = 1 << 5,
        HistoryTokens = 1 << 6,
        Model = 1 << 7,
        CachedInputTokens = 1 << 8,
        ReasoningTokens = 1 << 9,
        InputForm = 1 << 10,
        OutputForm = 1 << 11,
        Response = 1 << 12,
        Parent = 1 << 13,
        RunStart = 1 << 14,
        Status = 1 << 15,
        IncompleteReason = 1 << 16,
        ExpectedNumber = 1 << 17,
        Names = 1 << 18,
        All = (1 << 19) - 1,
    }

    /// <summary>Packs a turn: its details, then its input, its output, and its response.</summary>
    /// <param name="turn">The turn; its number is told by its place.</param>
    /// <param name="names">Where the names of agents are kept, as far as there is room for them.</param>
    public static byte[] Pack(Turn turn, AgentNames? names = null)
    {
        var writer = new Writer(stackalloc byte[256]);
        Write(ref writer, turn, names, withLengths: true);
        var packed = new byte[writer.Length + turn.Bytes];
        writer.Written.CopyTo(packed);
        var rest = packed.AsSpan(writer.Length);
        turn.Input.Bytes.Span.CopyTo(rest);
        turn.Output.Bytes.Span.CopyTo(rest[turn.Input.Length..]);
        turn.Response.Span.CopyTo(rest[(turn.Input.Length + turn.Output.Length)..]);
        return packed;
    }

    /// <summary>Unpacks the turn at the beginning of <paramref name="packed"/>, of which its texts remain a part.</summary>
    /// <exception cref="InvalidDataException">It is not one, or one of a later version.</exception>
    public static Turn Unpack(ReadOnlyMemory<byte> packed, int number, AgentNames? names, out int length)
    {
        var reader = new Reader(packed.Span);
        var turn = Read(ref reader, number, names, packed, beside: null);
        length = reader.Position;
        return turn;
    }

    /// <summary>Unpacks a turn that stands alone.</summary>
    /// <inheritdoc cref="Unpack(ReadOnlyMemory{byte}, int, AgentNames?, out int)"/>
    public static Turn Unpack(ReadOnlyMemory<byte> packed, int number)
    {
        var turn = Unpack(packed, number, names: null, out var length);
        return length == packed.Length ? turn : throw new InvalidDataException("Something stands behind a turn.");
    }

    /// <summary>How many bytes the turn at the beginning of <paramref name="packed"/> takes.</summary>
    public static int LengthOf(ReadOnlySpan<byte> packed)
    {
        var reader = new Reader(packed);
        Skip(ref reader, out var lengths);
        return checked((int)(reader.Position + lengths.Sum));
    }

    /// <summary>Packs what a turn has beside its texts, for stores that keep these by themselves.</summary>
    public static byte[] PackDetails(Turn turn)
    {
        var writer = new Writer(stackalloc byte[256]);
        Write(ref writer, turn, names: null, withLengths: false);
        return writer.Written.ToArray();
    }

    /// <summary>Unpacks what <see cref="PackDetails"/> made, with the texts that were kept beside it.</summary>
    /// <exception cref="InvalidDataException">It is not that, or of a later version.</exception>
    public static Turn UnpackDetails(ReadOnlySpan<byte> packed, int number, ReadOnlyMemory<byte> input, ReadOnlyMemory<byte> output,
        ReadOnlyMemory<byte> response)
    {
        var reader = new Reader(packed);
        var turn = Read(ref reader, number, names: null, default, beside: new Texts(input, output, response));
        return reader.Position == packed.Length ? turn
            : throw new InvalidDataException("Something stands behind the details of a turn.");
    }

    private static Parts PartsOf(Turn turn, bool hasNames)
    {
        var parts = Parts.None;
        Mark(Parts.StartedSession, turn.StartedSession);
        Mark(Parts.Nonce, turn.Nonce != TurnNonce.OfNumber(turn.Number));
        Mark(Parts.ExpectedNumber, turn.Nonce.ExpectedNumber != turn.Number);
        Mark(Parts.Usage, turn.Usage is not null);
        Mark(Parts.InputTokens, turn.Usage?.InputTokens is not null);
        Mark(Parts.OutputTokens, turn.Usage?.OutputTokens is not null);
        Mark(Parts.CachedInputTokens, turn.Usage?.CachedInputTokens is not null);
        Mark(Parts.ReasoningTokens, turn.Usage?.ReasoningTokens is not null);
        Mark(Parts.FinishReason, turn.FinishReason is not null);
        Mark(Parts.HistoryTokens, turn.HistoryTokens is not null);
        Mark(Parts.Model, !hasNames && turn.Model is not null);
        Mark(Parts.InputForm, turn.Input.Form != ItemsForm.Text);
        Mark(Parts.OutputForm, turn.Output.Form != ItemsForm.Text);
        Mark(Parts.Response, !turn.Response.IsEmpty);
        Mark(Parts.Parent, turn.Parent != turn.Number - 1);
        Mark(Parts.RunStart, turn.RunStart != 1);
        Mark(Parts.Status, turn.Status != TurnStatus.Completed);
        Mark(Parts.IncompleteReason, turn.IncompleteReason is not null);
        Mark(Parts.Names, !hasNames);
        return parts;

        void Mark(Parts part, bool isThere) => parts |= isThere ? part : Parts.None;
    }

    // The order of all that is written; Read and Skip go by the same.
    private static void Write(ref Writer writer, Turn turn, AgentNames? names, bool withLengths)
    {
        var name = names?.Add(turn.AgentType, turn.AgentUsed, turn.Model);
        var parts = PartsOf(turn, name is not null);
        writer.Write((long)parts);
        if (withLengths)
        {
            writer.Write(turn.Input.Length);
            writer.Write(turn.Output.Length);
            if (parts.HasFlag(Parts.Response))
            {
                writer.Write(turn.Response.Length);
            }
        }

        writer.Write(turn.CreatedAt.ToMicroseconds());
        writer.Write(turn.ExecutionTime.Ticks / TimeSpan.TicksPerMicrosecond);
        if (parts.HasFlag(Parts.Nonce))
        {
            writer.WriteRandom((uint)turn.Nonce.Value);
        }

        writer.WriteIf(parts.HasFlag(Parts.ExpectedNumber), turn.Nonce.ExpectedNumber);
        writer.WriteIf(name is not null, name ?? 0);
        writer.WriteIf(name is null, turn.AgentType);
        writer.WriteIf(name is null, turn.AgentUsed);
        writer.WriteIf(parts.HasFlag(Parts.Model), turn.Model);
        writer.WriteIf(parts.HasFlag(Parts.InputTokens), turn.Usage?.InputTokens ?? 0);
        writer.WriteIf(parts.HasFlag(Parts.OutputTokens), turn.Usage?.OutputTokens ?? 0);
        writer.WriteIf(parts.HasFlag(Parts.CachedInputTokens), turn.Usage?.CachedInputTokens ?? 0);
        writer.WriteIf(parts.HasFlag(Parts.ReasoningTokens), turn.Usage?.ReasoningTokens ?? 0);
        if (parts.HasFlag(Parts.FinishReason))
        {
            var known = Array.IndexOf(FinishReasons, turn.FinishReason) + 1;
            writer.Write(known);
            writer.WriteIf(known == 0, turn.FinishReason);
        }

        writer.WriteIf(parts.HasFlag(Parts.HistoryTokens), turn.HistoryTokens ?? 0);
        writer.WriteIf(parts.HasFlag(Parts.InputForm), (long)turn.Input.Form);
        writer.WriteIf(parts.HasFlag(Parts.OutputForm), (long)turn.Output.Form);
        writer.WriteIf(parts.HasFlag(Parts.Parent), turn.Parent);
        writer.WriteIf(parts.HasFlag(Parts.RunStart), turn.RunStart);
        writer.WriteIf(parts.HasFlag(Parts.Status), (long)turn.Status);
        writer.WriteIf(parts.HasFlag(Parts.IncompleteReason), turn.IncompleteReason);
    }

    // Where the texts are not kept beside the details, they stand behind them.
    private static Turn Read(ref Reader reader, int number, AgentNames? names, ReadOnlyMemory<byte> packed, Texts? beside)
    {
        var parts = ReadParts(ref reader);
        var lengths = beside is null ? Lengths.Read(ref reader, parts) : default;
        var createdAt = Timestamps.FromMicroseconds(reader.Read());
        var executionTime = TimeSpan.FromTicks(reader.Read() * TimeSpan.TicksPerMicrosecond);
        var random = parts.HasFlag(Parts.Nonce) ? reader.ReadRandom() : 0;
        var expected = (int?)reader.ReadIf(parts.HasFlag(Parts.ExpectedNumber)) ?? number;
        var (type, used, model) = parts.HasFlag(Parts.Names)
            ? (reader.ReadText(), reader.ReadText(), reader.ReadTextIf(parts.HasFlag(Parts.Model)))
            : (names ?? throw new InvalidDataException("A turn has no names."))[reader.ReadInt()];
        long? input = reader.ReadIf(parts.HasFlag(Parts.InputTokens)), output = reader.ReadIf(parts.HasFlag(Parts.OutputTokens));
        long? cached = reader.ReadIf(parts.HasFlag(Parts.CachedInputTokens)),
            reasoning = reader.ReadIf(parts.HasFlag(Parts.ReasoningTokens));
        var finishReason = parts.HasFlag(Parts.FinishReason) ? ReadFinishReason(ref reader) : null;
        var historyTokens = (int?)reader.ReadIf(parts.HasFlag(Parts.HistoryTokens));
        var inputForm = parts.HasFlag(Parts.InputForm) ? Defined((ItemsForm)reader.Read()) : ItemsForm.Text;
        var outputForm = parts.HasFlag(Parts.OutputForm) ? Defined((ItemsForm)reader.Read()) : ItemsForm.Text;
        var parent = (int?)reader.ReadIf(parts.HasFlag(Parts.Parent)) ?? number - 1;
        var runStart = (int?)reader.ReadIf(parts.HasFlag(Parts.RunStart)) ?? 1;
        var status = parts.HasFlag(Parts.Status) ? Defined((TurnStatus)reader.Read()) : TurnStatus.Completed;
        var incompleteReason = reader.ReadTextIf(parts.HasFlag(Parts.IncompleteReason));
        var texts = beside ?? Texts.Read(ref reader, packed, lengths);
        return new Turn
        {
            Number = number,
            CreatedAt = createdAt,
            ExecutionTime = executionTime,
            Nonce = new TurnNonce(((ulong)(uint)expected << 32) | random),
            AgentType = type,
            AgentUsed = used,
            Model = model,
            StartedSession = parts.HasFlag(Parts.StartedSession),
            Usage = parts.HasFlag(Parts.Usage) ? new TokenUsage(input, output, cached, reasoning) : null,
            FinishReason = finishReason,
            HistoryTokens = historyTokens,
            Input = Items.Of(inputForm, default).With(texts.Input),
            Output = Items.Of(outputForm, default).With(texts.Output),
            Parent = parent,
            RunStart = runStart,
            Status = status,
            IncompleteReason = incompleteReason,
            Response = texts.Response,
        };
    }

    // As Read, without making anything.
    private static void Skip(ref Reader reader, out Lengths lengths)
    {
        var parts = ReadParts(ref reader);
        lengths = Lengths.Read(ref reader, parts);
        reader.SkipNumbers(2);
        reader.Skip(parts.HasFlag(Parts.Nonce) ? NonceBytes : 0);
        reader.SkipNumbers(Count(parts, Parts.ExpectedNumber));
        if (parts.HasFlag(Parts.Names))
        {
            reader.SkipTexts(2 + Count(parts, Parts.Model));
        }
        else
        {
            reader.SkipNumbers(1);
        }

        reader.SkipNumbers(Count(parts, Parts.InputTokens | Parts.OutputTokens | Parts.CachedInputTokens | Parts.ReasoningTokens));
        if (parts.HasFlag(Parts.FinishReason) && reader.Read() == 0)
        {
            reader.SkipTexts(1);
        }

        reader.SkipNumbers(Count(parts,
            Parts.HistoryTokens | Parts.InputForm | Parts.OutputForm | Parts.Parent | Parts.RunStart | Parts.Status));
        reader.SkipTexts(Count(parts, Parts.IncompleteReason));
    }

    private static int Count(Parts parts, Parts of) => System.Numerics.BitOperations.PopCount((uint)(parts & of));

    private static Parts ReadParts(ref Reader reader) =>
        (Parts)reader.Read() is var parts && (parts & ~Parts.All) == 0 ? parts
            : throw new InvalidDataException("A turn was written by a later version.");

    private static string ReadFinishReason(ref Reader reader) => reader.ReadInt() switch
    {
        0 => reader.ReadText(),
        var known when known <= FinishReasons.Length => FinishReasons[known - 1],
        _ => throw new InvalidDataException("A turn has no such finish reason."),
    };

    private static T Defined<T>(T value) where T : struct, Enum => Enum.IsDefined(value) ? value
        : throw new InvalidDataException($"{value} is not a {typeof(T).Name}.");

    private readonly record struct Lengths(int Input, int Output, int Response)
    {
        public long Sum => (long)Input + Output + Response;

        public static Lengths Read(ref Reader reader, Parts parts)
        {
            var lengths = new Lengths(reader.ReadInt(), reader.ReadInt(), parts.HasFlag(Parts.Response) ? reader.ReadInt() : 0);
            return lengths is { Input: >= 0, Output: >= 0, Response: >= 0 } ? lengths
                : throw new InvalidDataException("A turn has no such length.");
        }
    }

    private readonly record struct Texts(ReadOnlyMemory<byte> Input, ReadOnlyMemory<byte> Output, ReadOnlyMemory<byte> Response)
    {
        public static Texts Read(ref Reader reader, ReadOnlyMemory<byte> packed, Lengths lengths)
        {
            var input = Next(ref reader, packed, lengths.Input);
            var output = Next(ref reader, packed, lengths.Output);
            return new(input, output, Next(ref reader, packed, lengths.Response));
        }

        private static ReadOnlyMemory<byte> Next(ref Reader reader, ReadOnlyMemory<byte> packed, int length)
        {
            var start = reader.Position;
            reader.Skip(length);
            return packed.Slice(start, length);
        }
    }

    // Seven bits a byte, the lowest first; a set top bit: more follow. Texts stand behind their length.
    private ref struct Writer(Span<byte> room)
    {
        private const int MaxNumberBytes = 10;

        private Span<byte> _room = room;

        public int Length { get; private set; }

        public readonly ReadOnlySpan<byte> Written => _room[..Length];

        public void Write(long number)
        {
            Reserve(MaxNumberBytes);
            var value = (ulong)number;
            while (value >= 0x80)
            {
                _room[Length++] = (byte)(value | 0x80);
                value >>= 7;
            }

            _room[Length++] = (byte)value;
        }

        public void WriteIf(bool isThere, long number)
        {
            if (isThere)
            {
                Write(number);
            }
        }

        public void WriteIf(bool isThere, string? text)
        {
            if (isThere)
            {
                var bytes = Encoding.UTF8.GetByteCount(text!);
                Write(bytes);
                Reserve(bytes);
                Length += Encoding.UTF8.GetBytes(text, _room[Length..]);
            }
        }

        public void WriteRandom(uint random)
        {
            Reserve(NonceBytes);
            BinaryPrimitives.WriteUInt32LittleEndian(_room[Length..], random);
            Length += NonceBytes;
        }

        private void Reserve(int bytes)
        {
            if (_room.Length - Length < bytes)
            {
                var larger = new byte[Math.Max(2 * _room.Length, Length + bytes)];
                Written.CopyTo(larger);
                _room = larger;
            }
        }
    }

    private ref struct Reader(ReadOnlySpan<byte> bytes)
    {
        private readonly ReadOnlySpan<byte> _bytes = bytes;
        private int _position;

        public readonly int Position => _position;

        public long Read()
        {
            // Most have one byte.
            var at = _position;
            if ((uint)at < (uint)_bytes.Length && _bytes[at] < 0x80)
            {
                _position = at + 1;
                return _bytes[at];
            }

            return ReadLong();
        }

        private long ReadLong()
        {
            ulong value = 0;
            var at = _position;
            for (var shift = 0; shift < 64 && at < _bytes.Length; shift += 7)
            {
                var next = _bytes[at++];
                value |= (ulong)(next & 0x7F) << shift;
                if (next < 0x80)
                {
                    _position = at;
                    return (long)value;
                }
            }

            throw new InvalidDataException("A number has no end.");
        }

        public int ReadInt() => Read() is var number and >= int.MinValue and <= int.MaxValue ? (int)number
            : throw new InvalidDataException("A number is too large.");

        public long? ReadIf(bool isThere) => isThere ? Read() : null;

        public string ReadText()
        {
            var length = ReadInt();
            var start = Position;
            Skip(length);
            return Encoding.UTF8.GetString(_bytes.Slice(start, length));
        }

        public string? ReadTextIf(bool isThere) => isThere ? ReadText() : null;

        public uint ReadRandom()
        {
            var start = Position;
            Skip(NonceBytes);
            return BinaryPrimitives.ReadUInt32LittleEndian(_bytes[start..]);
        }

        public void SkipNumbers(int count)
        {
            for (; count > 0; count--)
            {
                Read();
            }
        }

        public void SkipTexts(int count)
        {
            for (; count > 0; count--)
            {
                Skip(ReadInt());
            }
        }

        public void Skip(int length) =>
            _position = length >= 0 && length <= _bytes.Length - _position ? _position + length
                : throw new InvalidDataException("A turn ends too early.");
    }
}

/// <summary>
/// Names of agents and models, each kept once and known by a number. Most come from the configuration and are few; as clients that append
/// turns choose names too, there is a bound: past it they stand with their turns.
/// </summary>
internal sealed class AgentNames
{
    private const int MaxNames = 128;

    private readonly Lock _lock = new();
    private volatile (string Type, string Used, string? Model)[] _names = [];

    /// <summary>The names with that number.</summary>
    public (string Type, string Used, string? Model) this[int number] => _names[number];

    /// <summary>The number of these names; <see langword="null"/> where there is no room for them.</summary>
    public int? Add(string type, string used, string? model)
    {
        var names = _names;
        for (var i = 0; i < names.Length; i++)
        {
            if (names[i].Type == type && names[i].Used == used && names[i].Model == model)
            {
                return i;
            }
        }

        lock (_lock)
        {
            if (_names == names)
            {
                if (names.Length == MaxNames)
                {
                    return null;
                }

                _names = [.. names, (type, used, model)];
                return names.Length;
            }
        }

        return Add(type, used, model);
    }
}
