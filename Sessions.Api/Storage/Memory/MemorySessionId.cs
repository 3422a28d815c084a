namespace Sessions.Api.Storage.Memory;

/// <summary>A session's id in memory: ours are UUIDs, and take a sixth of the string.</summary>
internal readonly struct MemorySessionId
{
    /// <summary>How many characters a UUID has as a text.</summary>
    public const int UuidLength = 36;

    private readonly Guid _uuid;
    private readonly string? _other;

    public MemorySessionId(string id)
    {
        // As we write it: in another spelling it is another id.
        if (!Guid.TryParseExact(id, "D", out _uuid) || !Is(id))
        {
            _other = id;
        }
    }

    /// <summary>Whether it is that key as a text.</summary>
    public bool Is(Guid key) => _other is null && _uuid == key;

    public bool Is(ReadOnlySpan<char> id)
    {
        if (_other is not null)
        {
            return id.SequenceEqual(_other);
        }

        Span<char> written = stackalloc char[UuidLength];
        return id.Length == UuidLength && _uuid.TryFormat(written, out _) && id.SequenceEqual(written);
    }

    public override string ToString() => _other ?? _uuid.ToString();

    /// <summary>The hash of the id as a text, with a seed of this process's own: clients choose ids.</summary>
    public int Hash()
    {
        if (_other is not null)
        {
            return string.GetHashCode(_other);
        }

        Span<char> written = stackalloc char[UuidLength];
        _uuid.TryFormat(written, out _);
        return string.GetHashCode(written);
    }
}

/// <summary>Finds sessions in a set by their id.</summary>
internal sealed class ByMemorySessionId : IEqualityComparer<MemorySession>, IAlternateEqualityComparer<ReadOnlySpan<char>, MemorySession>
{
    public static readonly ByMemorySessionId Instance = new();

    public bool Equals(MemorySession? x, MemorySession? y) => ReferenceEquals(x, y) || (x is not null && y is not null && x.HasId(y.Id));

    public bool Equals(ReadOnlySpan<char> alternate, MemorySession other) => other.HasId(alternate);

    public int GetHashCode(MemorySession obj) => obj.IdHash();

    public int GetHashCode(ReadOnlySpan<char> alternate) => string.GetHashCode(alternate);

    public MemorySession Create(ReadOnlySpan<char> alternate) => throw new NotSupportedException();
}

/// <summary>Finds sessions in a set by their key.</summary>
internal sealed class ByMemorySessionKey : IEqualityComparer<MemorySession>, IAlternateEqualityComparer<Guid, MemorySession>
{
    public static readonly ByMemorySessionKey Instance = new();

    public bool Equals(MemorySession? x, MemorySession? y) => ReferenceEquals(x, y) || (x is not null && y is not null && x.Key == y.Key);

    public bool Equals(Guid alternate, MemorySession other) => other.Key == alternate;

    public int GetHashCode(MemorySession obj) => obj.Key.GetHashCode();

    public int GetHashCode(Guid alternate) => alternate.GetHashCode();

    public MemorySession Create(Guid alternate) => throw new NotSupportedException();
}
