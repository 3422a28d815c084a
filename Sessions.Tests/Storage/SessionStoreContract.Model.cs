using CsCheck;
using Microsoft.Extensions.Time.Testing;
using Sessions.Api;
using Sessions.ServiceDefaults;

namespace Sessions.Tests.Storage;

public abstract partial class SessionStoreContract
{
    private const int MaxPerUser = 3;

    private static readonly TimeSpan Timeout = TimeSpan.FromMinutes(60);

    private enum Kind
    {
        Create,
        Turn,
        Fail,
        Abandon,
        Delete,
        Fork,
        Erase,
        Cleanup,
        Advance,
        SetBack,
    }

    // Few ids and users, so that they meet; times that now and then add up to the timeout.
    private static readonly Gen<Operation> Operations = Gen.Select(
        Gen.Frequency((3, Gen.Const(Kind.Create)), (8, Gen.Const(Kind.Turn)), (2, Gen.Const(Kind.Fail)), (1, Gen.Const(Kind.Abandon)), (2, Gen.Const(Kind.Delete)),
            (2, Gen.Const(Kind.Fork)), (1, Gen.Const(Kind.Erase)), (1, Gen.Const(Kind.Cleanup)), (5, Gen.Const(Kind.Advance)), (2, Gen.Const(Kind.SetBack))),
        Gen.Int[0, 7], Gen.Int[0, 7], Gen.Int[0, 2].Select(user => user == 0 ? null : user == 1 ? "u" : "v"), Gen.Int[0, 40],
        (kind, id, other, user, number) => new Operation(kind, $"s{id}", $"s{other}", user, number));

    private sealed record Operation(Kind Kind, string Id, string Other, string? User, int Number);

    /// <summary>How many random sequences to try: stores that are slower try fewer.</summary>
    protected virtual int ModelSequences => 300;

    [Fact]
    public Task Any_sequence_of_operations_gives_what_a_plain_list_gives() =>
        Operations.Array[1, 60].SampleAsync(async operations =>
        {
            var time = new FakeTimeProvider(Start);
            var settings = new SessionSettings { MaxSessionsPerUser = MaxPerUser, TimeoutHours = Timeout.TotalHours };
            await using var store = await OpenAsync(settings, time);
            var model = new SessionStoreModel(MaxPerUser, Timeout, time);
            for (var i = 0; i < operations.Length; i++)
            {
                await ApplyAsync(store, model, operations[i], $"q{i}");
                await CompareAsync(store, model);
            }
        }, iter: ModelSequences, threads: 1);

    private static async Task ApplyAsync(TestStore store, SessionStoreModel model, Operation operation, string query)
    {
        var (kind, id, other, user, number) = operation;
        switch (kind)
        {
            case Kind.Create:
                Assert.Equal(model.Create(id, user), await store.Store.CreateAsync(TestStore.New(id, user), Cancel) is not null);
                break;
            case Kind.Turn:
                var start = await store.BeginAsync(id, user, history: 2);
                Assert.Equal(model.Turn(id, user, query), start.Status == TurnStartStatus.Started && await store.CommitAsync(start, query) == CommitStatus.Committed);
                break;
            case Kind.Fail:
                var failing = await store.BeginAsync(id, user);
                if (failing.Status == TurnStartStatus.Started)
                {
                    await store.Store.FailTurnAsync(failing, "error", Cancel);
                }

                await store.Store.AbandonTurnAsync(failing, Cancel);
                model.Fail(id, user);
                break;
            case Kind.Abandon:
                await store.Store.AbandonTurnAsync(await store.BeginAsync(id, user), Cancel);
                break;
            case Kind.Delete:
                Assert.Equal(model.Delete(id, user), await store.Store.DeleteAsync(id, user is null ? Owner.Anyone : Owner.Of(user), Cancel));
                break;
            case Kind.Fork:
                var source = await store.GetAsync(id);
                var fork = await store.Store.ForkAsync(id, Owner.Anyone, number % 4, TestStore.New(other, source?.UserId), Cancel);
                Assert.Equal(model.Fork(id, number % 4, other), fork.Status == ForkStatus.Created);
                break;
            case Kind.Erase:
                Assert.Equal(model.Erase(user ?? "u"), (await store.Store.EraseUserAsync(user ?? "u", Cancel)).Sessions);
                break;
            case Kind.Cleanup:
                await store.Store.RemoveExpiredAsync(Cancel);
                break;
            case Kind.SetBack:
                // What has expired would live again, but for what a store has removed meanwhile, which is up to the store.
                await store.Store.RemoveExpiredAsync(Cancel);
                model.RemoveExpired();
                store.Time.AdjustTime(store.Time.GetUtcNow() - TimeSpan.FromMinutes(number));
                break;
            default:
                store.Time.Advance(TimeSpan.FromMinutes(number));
                break;
        }
    }

    private static async Task CompareAsync(TestStore store, SessionStoreModel model)
    {
        Assert.Equal(model.Count(), (await store.Store.GetStatisticsAsync(Cancel)).ActiveSessions);
        for (var i = 0; i < 8; i++)
        {
            var session = await store.GetAsync($"s{i}");
            var history = session is null ? [] : await store.HistoryAsync(session.Id);
            Assert.Equal(model.Describe($"s{i}"), SessionStoreModel.Describe(session, history));
            if (session is not null)
            {
                Assert.Equal(history.Count, session.TurnCount);
                Assert.Equal(history.Count == 0 ? null : history[^1], session.LastTurn);
                Assert.Equal(Enumerable.Range(1, history.Count), history.Select(turn => turn.Number));
                Assert.Equal(session.LastActivityAt + Timeout, session.ExpiresAt);
            }
        }

        foreach (var user in (string[])["u", "v"])
        {
            Assert.Equal(model.List(user), await store.ListIdsAsync(user));
        }
    }
}
