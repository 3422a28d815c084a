using Sessions.Api;

namespace Sessions.Tests.Storage;

/// <summary>The plainest store there can be: a list, searched from end to end. What the real stores are compared with.</summary>
internal sealed class SessionStoreModel(int maxPerUser, TimeSpan timeout, TimeProvider time)
{
    private readonly List<Entry> _entries = [];

    private DateTimeOffset Now => time.GetUtcNow();

    public bool Create(string id, string? user)
    {
        if (Live(id) is not null)
        {
            return false;
        }

        Add(id, user);
        return true;
    }

    public bool Delete(string id, string? user)
    {
        if (Had(id, user, mayClaim: false) is not { } entry)
        {
            return false;
        }

        _entries.Remove(entry);
        return true;
    }

    public bool Turn(string id, string? user, string query)
    {
        if (Live(id) is { } found && !MayHave(found, user, mayClaim: true))
        {
            return false;
        }

        var isNew = Live(id) is null;
        var entry = Live(id) ?? Add(id, user);
        entry.Queries.Add(query);
        Touch(entry, user, isNew);
        return true;
    }

    public void Fail(string id, string? user)
    {
        var entry = Live(id);
        if (entry is not null && !MayHave(entry, user, mayClaim: true))
        {
            return;
        }

        var isNew = entry is null;
        if (isNew && maxPerUser > 0 && user is not null && LiveOf(user).Count >= maxPerUser)
        {
            return;
        }

        entry ??= Add(id, user);
        entry.Errors++;
        Touch(entry, user: null, isNew);
    }

    public bool Fork(string source, int afterTurn, string id)
    {
        if (Live(source) is not { } from || afterTurn > from.Queries.Count || Live(id) is not null)
        {
            return false;
        }

        var queries = from.Queries.Take(afterTurn).ToList();
        Add(id, from.User).Queries.AddRange(queries);
        return true;
    }

    public int Erase(string user)
    {
        var live = LiveOf(user).Count;
        _entries.RemoveAll(entry => entry.User == user);
        return live;
    }

    public void RemoveExpired() => _entries.RemoveAll(entry => !IsLive(entry));

    public int Count() => _entries.Count(IsLive);

    public IReadOnlyList<string> List(string user) => [.. LiveOf(user).Select(entry => entry.Id)];

    public string? Describe(string id) => Live(id) is { } entry
        ? $"{entry.User}|{entry.Version}|{entry.CreatedAt:O}|{entry.ActiveAt:O}|{entry.Errors}|{string.Join(',', entry.Queries)}"
        : null;

    public static string? Describe(Session? session, IReadOnlyList<Turn> history) => session is null ? null
        : $"{session.UserId}|{session.Version}|{session.CreatedAt:O}|{session.LastActivityAt:O}|{session.ErrorCount}|{string.Join(',', history.Select(turn => turn.Query))}";

    private Entry Add(string id, string? user)
    {
        _entries.RemoveAll(entry => entry.Id == id);
        if (user is not null)
        {
            MakeRoom(user);
        }

        var added = new Entry(id, Now) { User = user };
        _entries.Add(added);
        return added;
    }

    private void Touch(Entry entry, string? user, bool isNew)
    {
        entry.Version += isNew ? 0 : 1;
        if (entry.User is null && user is not null)
        {
            MakeRoom(user);
            entry.User = user;
        }

        entry.ActiveAt = Now > entry.ActiveAt ? Now : entry.ActiveAt;
    }

    private void MakeRoom(string user)
    {
        while (maxPerUser > 0 && LiveOf(user) is { } live && live.Count >= maxPerUser)
        {
            _entries.Remove(live[^1]);
        }
    }

    private List<Entry> LiveOf(string user) =>
        [.. _entries.Where(entry => IsLive(entry) && entry.User == user).OrderByDescending(entry => entry.ActiveAt).ThenByDescending(entry => entry.Id, StringComparer.Ordinal)];

    private Entry? Live(string id) => _entries.Find(entry => entry.Id == id && IsLive(entry));

    private Entry? Had(string id, string? user, bool mayClaim) => Live(id) is { } entry && MayHave(entry, user, mayClaim) ? entry : null;

    private static bool MayHave(Entry entry, string? user, bool mayClaim) => user is null || (entry.User is null ? mayClaim : entry.User == user);

    private bool IsLive(Entry entry) => entry.ActiveAt + timeout > Now;

    private sealed class Entry(string id, DateTimeOffset now)
    {
        public string Id { get; } = id;

        public string? User { get; set; }

        public DateTimeOffset CreatedAt { get; } = now;

        public DateTimeOffset ActiveAt { get; set; } = now;

        public int Version { get; set; } = 1;

        public int Errors { get; set; }

        public List<string> Queries { get; } = [];
    }
}
