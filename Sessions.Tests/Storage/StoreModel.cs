namespace Sessions.Tests.Storage;

/// <summary>The plainest store there can be: a list, searched from end to end. What the real stores are compared with.</summary>
internal sealed class StoreModel(StorePolicy policy, TimeProvider time)
{
    private readonly List<Entry> _entries = [];
    private readonly Dictionary<Guid, Reserved> _reservations = [];

    private DateTimeOffset Now => time.GetUtcNow();

    public CopyStatus Create(string id, SessionKind kind, string? user, int metadata, Guid? reservedBy = null)
    {
        if (Live(id) is not null)
        {
            return CopyStatus.IdTaken;
        }

        var added = new Entry(id, kind, Now) { User = user, Metadata = metadata, ReservedBy = reservedBy };
        return TryAdd(added) ? CopyStatus.Created : CopyStatus.Full;
    }

    /// <summary>What opening gives: whether there is such a session for this owner; its expiry moves where a turn begins.</summary>
    public OpenStatus Open(string id, Owner owner, int? tip, Idempotency? key, TimeSpan? atLeast)
    {
        if (Live(id) is not { } entry)
        {
            return tip > 0 ? OpenStatus.NoSuchTurn : OpenStatus.Opened;
        }

        if (!owner.MayHave(entry.User))
        {
            return OpenStatus.NotFound;
        }

        if (key is { } given && entry.Answered.TryGetValue(given.Key, out var answered))
        {
            return answered.Body == given.Body ? OpenStatus.Replayed : OpenStatus.KeyReused;
        }

        if (tip > entry.Turns.Count)
        {
            return OpenStatus.NoSuchTurn;
        }

        if (atLeast is { } needed && entry.ExpiresAt < Now + needed)
        {
            entry.ExpiresAt = Now + needed;
            entry.Version++;
        }

        return OpenStatus.Opened;
    }

    public WriteStatus Append(string id, SessionKind kind, Owner owner, int parent, string query, string? summary, Idempotency? key,
        Guid? reservedBy)
    {
        var isNew = Live(id) is null;
        var entry = Live(id) ?? new Entry(id, kind, Now) { User = owner.UserId, ReservedBy = reservedBy };
        var added = query.Length + (summary is null ? 0 : summary.Length - (entry.Summary?.Text.Length ?? 0));
        var claims = entry.User is null && owner.UserId is not null;
        if (!MakeRoomInBytes(entry, claims ? owner.UserId : entry.User, StorePolicy.SizeOf(entry.Bytes + added, entry.Turns.Count + 1)))
        {
            return WriteStatus.Full;
        }

        if (isNew)
        {
            _entries.RemoveAll(expired => expired.Id == id);
            MakeRoomInNumber(entry.Kind, entry.User, entry);
            _entries.Add(entry);
        }
        else
        {
            entry.Version++;
            if (claims)
            {
                MakeRoomInNumber(entry.Kind, owner.UserId, entry);
                entry.User = owner.UserId;
            }
        }

        var number = entry.Turns.Count + 1;
        entry.Turns.Add(new(number, parent, query));
        entry.Summary = summary is null ? entry.Summary : (summary, number);
        if (key is { } given)
        {
            entry.Answered[given.Key] = (given.Body, number);
        }

        Touch(entry);
        return WriteStatus.Written;
    }

    public void Fail(string id, SessionKind kind, Owner owner)
    {
        var entry = Live(id);
        if (entry is null)
        {
            entry = new Entry(id, kind, Now) { User = owner.UserId };
            var max = policy.MaxPerUser(kind);
            if ((max > 0 && entry.User is not null && LiveOf(entry.User, kind).Count >= max) || !TryAdd(entry))
            {
                return;
            }
        }
        else
        {
            entry.Version++;
        }

        entry.Errors++;
        Touch(entry);
    }

    public WriteStatus ReplaceMetadata(string id, int metadata)
    {
        var entry = Live(id)!;
        if (!MakeRoomInBytes(entry, entry.User, StorePolicy.SizeOf(entry.Bytes - entry.Metadata + metadata, entry.Turns.Count)))
        {
            return WriteStatus.Full;
        }

        entry.Metadata = metadata;
        entry.Version++;
        return WriteStatus.Written;
    }

    public void ReplaceTurn(string id, int number, string query, bool dropSummary)
    {
        var entry = Live(id)!;
        entry.Turns[number - 1] = entry.Turns[number - 1] with { Query = query };
        entry.Summary = dropSummary ? null : entry.Summary;
        entry.Version++;
        entry.Rewrites++;
    }

    public bool Delete(string id, Owner owner)
    {
        if (Live(id) is not { } entry || !owner.MayHave(entry.User))
        {
            return false;
        }

        Remove(entry);
        return true;
    }

    public CopyStatus Fork(string source, int afterTurn, string id, SessionKind kind)
    {
        if (Live(source) is not { } from)
        {
            return CopyStatus.SourceNotFound;
        }

        if (afterTurn > from.Turns.Count)
        {
            return CopyStatus.NoSuchTurn;
        }

        if (Live(id) is not null)
        {
            return CopyStatus.IdTaken;
        }

        var fork = new Entry(id, kind, Now) { User = from.User, Summary = from.Summary?.Covers <= afterTurn ? from.Summary : null };
        fork.Turns.AddRange(from.Turns.Take(afterTurn));
        return TryAdd(fork) ? CopyStatus.Created : CopyStatus.Full;
    }

    public (int Sessions, int Turns) Erase(string user)
    {
        var live = _entries.Where(entry => IsLive(entry) && entry.User == user).ToList();
        foreach (var entry in _entries.Where(entry => entry.User == user).ToList())
        {
            Remove(entry);
        }

        return (live.Count, live.Sum(entry => entry.Turns.Count));
    }

    public KeyReservation Reserve(Idempotency key, Owner owner, string id)
    {
        if (_reservations.TryGetValue(key.Key, out var reserved))
        {
            var session = Live(reserved.Id);
            if (reserved.ExpiresAt > Now || session?.ReservedBy == key.Key)
            {
                return session is null || reserved.Id == id || owner.MayHave(session.User)
                    ? new(reserved.Id, reserved.Body == key.Body, IsNew: false)
                    : new(id, SameBody: false, IsNew: false);
            }
        }

        _reservations[key.Key] = new Reserved(id, key.Body, Now + policy.Lifetime(SessionKind.Session));
        return new(id, SameBody: true, IsNew: true);
    }

    public void RemoveExpired()
    {
        foreach (var entry in _entries.Where(entry => !IsLive(entry)).ToList())
        {
            Remove(entry);
        }
    }

    public int Count() => _entries.Count(entry => IsLive(entry) && entry.Kind != SessionKind.Chain);

    public IReadOnlyList<string> List(string? user, SessionKind? kind) =>
    [
        .. _entries.Where(entry => IsLive(entry) && (user is null || entry.User == user)
            && (kind is null ? entry.Kind != SessionKind.Chain : entry.Kind == kind))
            .OrderByDescending(entry => entry.ActiveAt).ThenByDescending(entry => entry.Id, StringComparer.Ordinal)
                .Select(entry => entry.Id),
    ];

    public bool IsReserved(string id) => Live(id)?.ReservedBy is not null;

    public int TurnCount(string id) => Live(id)?.Turns.Count ?? 0;

    public IReadOnlyList<(int Number, int Parent, string Query)> Turns(string id) => Live(id)?.Turns ?? [];

    public IReadOnlyList<(int Number, int Parent, string Query)> Path(string id, int? tip = null)
    {
        List<(int Number, int Parent, string Query)> path = [];
        if (Live(id) is { } entry)
        {
            for (var number = tip ?? entry.Turns.Count; number > 0; number = entry.Turns[number - 1].Parent)
            {
                path.Insert(0, entry.Turns[number - 1]);
            }
        }

        return path;
    }

    public string? Describe(string id) => Live(id) is { } entry
        ? $"{entry.Kind}|{entry.User}|{entry.Version}|{entry.Rewrites}|{entry.CreatedAt:O}|{entry.ActiveAt:O}|{entry.ExpiresAt:O}|"
            + $"{entry.Errors}|{entry.Metadata}|{entry.Summary}|{entry.Bytes}|{entry.Turns.Count}"
        : null;

    public static string? Describe(Session? session) => session is null
        ? null
        : $"{session.Kind}|{session.UserId}|{session.Revision.Version}|{session.Rewrites}|{session.CreatedAt:O}|"
            + $"{session.LastActivityAt:O}|{session.ExpiresAt:O}|{session.ErrorCount}|"
            + $"{session.Metadata.Length}|{Describe(session.Summary)}|{session.Bytes}|{session.TurnCount}";

    private static (string Text, int Covers)? Describe(Summary? summary) =>
        summary is null ? null : (summary.Text.ToString(), summary.CoversTurns);

    private bool TryAdd(Entry entry)
    {
        if (!MakeRoomInBytes(entry, entry.User, StorePolicy.SizeOf(entry.Bytes, entry.Turns.Count)))
        {
            return false;
        }

        foreach (var expired in _entries.Where(expired => expired.Id == entry.Id).ToList())
        {
            Remove(expired);
        }

        MakeRoomInNumber(entry.Kind, entry.User, entry);
        _entries.Add(entry);
        entry.ExpiresAt = entry.ActiveAt + policy.Lifetime(entry.Kind);
        return true;
    }

    private void Touch(Entry entry)
    {
        entry.ActiveAt = Now > entry.ActiveAt ? Now : entry.ActiveAt;
        entry.ExpiresAt = entry.ActiveAt + policy.Lifetime(entry.Kind);
    }

    private void MakeRoomInNumber(SessionKind kind, string? user, Entry newcomer)
    {
        var max = policy.MaxPerUser(kind);
        while (max > 0 && user is not null && LiveOf(user, kind).Where(entry => entry != newcomer).ToList() is { } live
            && live.Count >= max)
        {
            Remove(live[^1]);
        }
    }

    // Chains of the same owner, the oldest first, as many as are needed; none where these would not be enough.
    private bool MakeRoomInBytes(Entry entry, string? user, long size)
    {
        var others = _entries.Where(other => IsLive(other) && other != entry && other.User == user).ToList();
        var chains = others.Where(other => other.Kind == SessionKind.Chain).OrderBy(other => other.ActiveAt)
            .ThenBy(other => other.Id, StringComparer.Ordinal).ToList();
        var current = _entries.Contains(entry) && IsLive(entry) && entry.User == user ? StorePolicy.SizeOf(entry.Bytes, entry.Turns.Count)
            : 0;
        if (size <= current)
        {
            return true;
        }

        List<Entry> removed = [];
        if (entry.Kind == SessionKind.Chain && policy.ChainBytesPerOwner > 0 && !Fits(chains, policy.ChainBytesPerOwner))
        {
            return false;
        }

        if (user is null && policy.UnownedBytes > 0 && !Fits(others, policy.UnownedBytes))
        {
            return false;
        }

        foreach (var chain in removed)
        {
            Remove(chain);
        }

        return true;

        bool Fits(List<Entry> counted, long limit)
        {
            long Sum() => size + counted.Where(other => !removed.Contains(other))
                .Sum(other => StorePolicy.SizeOf(other.Bytes, other.Turns.Count));
            while (Sum() > limit)
            {
                if (chains.Find(chain => !removed.Contains(chain)) is not { } oldest)
                {
                    return false;
                }

                removed.Add(oldest);
            }

            return true;
        }
    }

    private void Remove(Entry entry)
    {
        _entries.Remove(entry);
        if (entry.ReservedBy is { } key && _reservations.TryGetValue(key, out var reserved) && reserved.Id == entry.Id
            && (IsLive(entry) || reserved.ExpiresAt <= Now))
        {
            _reservations.Remove(key);
        }
    }

    private List<Entry> LiveOf(string user, SessionKind kind) =>
    [
        .. _entries.Where(entry => IsLive(entry) && entry.User == user && entry.Kind == kind)
            .OrderByDescending(entry => entry.ActiveAt).ThenByDescending(entry => entry.Id, StringComparer.Ordinal),
    ];

    private Entry? Live(string id) => _entries.Find(entry => entry.Id == id && IsLive(entry));

    private bool IsLive(Entry entry) => entry.ExpiresAt > Now;

    private sealed record Reserved(string Id, Guid Body, DateTimeOffset ExpiresAt);

    private sealed class Entry(string id, SessionKind kind, DateTimeOffset now)
    {
        public string Id { get; } = id;

        public SessionKind Kind { get; } = kind;

        public string? User { get; set; }

        public DateTimeOffset CreatedAt { get; } = now;

        public DateTimeOffset ActiveAt { get; set; } = now;

        public DateTimeOffset ExpiresAt { get; set; } = now;

        public int Version { get; set; } = 1;

        public int Rewrites { get; set; }

        public int Errors { get; set; }

        public int Metadata { get; set; }

        public (string Text, int Covers)? Summary { get; set; }

        public Guid? ReservedBy { get; init; }

        public List<(int Number, int Parent, string Query)> Turns { get; } = [];

        public Dictionary<Guid, (Guid Body, int Turn)> Answered { get; } = [];

        public long Bytes => Metadata + (Summary?.Text.Length ?? 0) + Turns.Sum(turn => (long)turn.Query.Length);
    }
}
