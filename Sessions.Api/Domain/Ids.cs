using System.Buffers;
using System.Globalization;

namespace Sessions.Api.Domain;

/// <summary>
/// What tells a turn from all others of its session, drawn when the turn begins: it is told to clients before the turn has a number. The
/// upper half is the number that the
/// turn was to get, so that it is found without an index: a turn never gets a lower one, and a higher one only where others were
/// committed beside it. The lower half is random, and no secret: what can't be guessed of an id is its session's key.
/// </summary>
/// <param name="Value">Both halves.</param>
internal readonly record struct TurnNonce(ulong Value)
{
    /// <summary>How many hexadecimal digits it is written with.</summary>
    public const int Digits = 16;

    /// <summary>The number that the turn was to get.</summary>
    public int ExpectedNumber => (int)(Value >> 32);

    /// <summary>Draws one.</summary>
    /// <param name="expectedNumber">The number that the turn is to get.</param>
    public static TurnNonce New(int expectedNumber) =>
        new(((ulong)expectedNumber << 32) | (uint)Random.Shared.NextInt64(1L << 32));

    /// <summary>That of a turn of a time when there were none: always the same.</summary>
    public static TurnNonce OfNumber(int number) => new((ulong)number << 32);

    /// <summary>Reads one from its 16 hexadecimal digits. One whose number would not be a turn's was never drawn.</summary>
    public static bool TryParse(ReadOnlySpan<char> digits, out TurnNonce nonce)
    {
        nonce = default;
        if (digits.Length != Digits || !ulong.TryParse(digits, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var value)
            || value >> 32 > int.MaxValue)
        {
            return false;
        }

        nonce = new TurnNonce(value);
        return true;
    }
}

/// <summary>
/// A session's key, drawn when it is created, never given to another: a UUIDv7, of which 74 bits are random. It is what tells a session
/// from an earlier or later one with the same id, and what ids under <c>/v1</c> are made of. As it begins with the time, sessions that
/// are created one after the other stand side by side in a store's index of keys: a commit of many writes few pages of it.
/// </summary>
internal static class SessionKey
{
    /// <summary>Draws one.</summary>
    public static Guid New() => Guid.CreateVersion7();

    /// <summary>Draws one, and the id of the session where its client has chosen none: the same, so that ids sort by time.</summary>
    public static (string Id, Guid Key) NewWithId(TimeProvider time)
    {
        var key = Guid.CreateVersion7(time.GetUtcNow());
        return (key.ToString(), key);
    }
}

/// <summary>A conversation's id under <c>/v1</c>: <c>conv_</c> and its session's key.</summary>
internal static class ConversationId
{
    /// <summary>What it begins with.</summary>
    public const string Prefix = "conv_";

    /// <summary>Writes one.</summary>
    public static string Of(Guid key) => string.Concat(Prefix, key.ToString("N"));

    /// <summary>Reads one.</summary>
    public static bool TryParse(string? id, out Guid key)
    {
        key = default;
        return id is not null && id.StartsWith(Prefix, StringComparison.Ordinal) && HexId.TryReadKey(id.AsSpan(Prefix.Length), out key);
    }
}

/// <summary>A response's id: <c>resp_</c>, its session's key and its turn's nonce.</summary>
/// <param name="Key">The session's key.</param>
/// <param name="Nonce">The turn's nonce.</param>
internal readonly record struct ResponseId(Guid Key, TurnNonce Nonce)
{
    /// <summary>What it begins with.</summary>
    public const string Prefix = "resp_";

    /// <summary>Reads one.</summary>
    public static bool TryParse(string? id, out ResponseId parsed)
    {
        parsed = default;
        if (id is null || id.Length != Prefix.Length + HexId.Length || !id.StartsWith(Prefix, StringComparison.Ordinal)
            || !HexId.TryRead(id.AsSpan(Prefix.Length), out var key, out var nonce))
        {
            return false;
        }

        parsed = new ResponseId(key, nonce);
        return true;
    }

    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Prefix}{Key:N}{Nonce.Value:x16}");
}

/// <summary>
/// An item's id: a prefix that tells its type, its session's key, its turn's nonce, its side and its place among the items of that side.
/// It is never stored: an item has it by where it
/// stands, so that a copy of a session has ids of its own, and nothing that a client sends can take the place of another's item.
/// </summary>
/// <param name="Key">The session's key.</param>
/// <param name="Nonce">The turn's nonce.</param>
/// <param name="Side">The side of the turn.</param>
/// <param name="Index">The place, from 0; that of a deleted item stays taken.</param>
internal readonly record struct ItemId(Guid Key, TurnNonce Nonce, ItemSide Side, int Index)
{
    /// <summary>The prefix of an item of a type: <c>msg_</c>, <c>fc_</c> and so on.</summary>
    public static string PrefixOf(ReadOnlySpan<char> type) => type switch
    {
        "message" => "msg_",
        "function_call" => "fc_",
        "function_call_output" => "fco_",
        "reasoning" => "rs_",
        "mcp_call" => "mcp_",
        "mcp_list_tools" => "mcpl_",
        _ => "item_",
    };

    /// <summary>Writes it, for an item of that type.</summary>
    public string ToString(ReadOnlySpan<char> type) => string.Create(
        CultureInfo.InvariantCulture, $"{PrefixOf(type)}{Key:N}{Nonce.Value:x16}{(Side == ItemSide.Input ? 'i' : 'o')}{Index}");

    /// <summary>Reads one, whatever type its prefix tells.</summary>
    public static bool TryParse(string? id, out ItemId parsed)
    {
        parsed = default;
        var underscore = id?.IndexOf('_', StringComparison.Ordinal) ?? -1;
        if (underscore is < 1 or > 8 || id!.Length < underscore + 1 + HexId.Length + 2)
        {
            return false;
        }

        var rest = id.AsSpan(underscore + 1);
        var side = rest[HexId.Length];
        var index = rest[(HexId.Length + 1)..];
        if (side is not ('i' or 'o') || index.Length > 9 || (index.Length > 1 && index[0] == '0')
            || !int.TryParse(index, NumberStyles.None, CultureInfo.InvariantCulture, out var number)
            || !HexId.TryRead(rest[..HexId.Length], out var key, out var nonce))
        {
            return false;
        }

        parsed = new ItemId(key, nonce, side == 'i' ? ItemSide.Input : ItemSide.Output, number);
        return true;
    }
}

/// <summary>A key and a nonce in hexadecimal digits, in lower case: each has one spelling.</summary>
internal static class HexId
{
    /// <summary>How many digits both have.</summary>
    public const int Length = KeyLength + TurnNonce.Digits;

    private const int KeyLength = 32;

    private static readonly SearchValues<char> LowerHexDigits = SearchValues.Create("0123456789abcdef");

    public static bool TryReadKey(ReadOnlySpan<char> text, out Guid key)
    {
        key = default;
        return text.Length == KeyLength && IsLowerHex(text) && Guid.TryParseExact(text, "N", out key);
    }

    public static bool TryRead(ReadOnlySpan<char> text, out Guid key, out TurnNonce nonce)
    {
        (key, nonce) = (default, default);
        return text.Length == Length && TryReadKey(text[..KeyLength], out key) && IsLowerHex(text[KeyLength..])
            && TurnNonce.TryParse(text[KeyLength..], out nonce);
    }

    private static bool IsLowerHex(ReadOnlySpan<char> text) => !text.ContainsAnyExcept(LowerHexDigits);
}
