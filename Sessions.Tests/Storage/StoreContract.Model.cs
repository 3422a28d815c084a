using CsCheck;
using Microsoft.Extensions.Time.Testing;

namespace Sessions.Tests.Storage;

/// <content>Any sequence of operations, on a store and on a plain model beside it.</content>
public abstract partial class StoreContract
{
    private const int IdCount = 8;

    private enum Kind
    {
        Create,
        Turn,
        Branch,
        Siblings,
        Fail,
        Release,
        Metadata,
        Rewrite,
        Delete,
        Fork,
        SealedFork,
        Move,
        Erase,
        Reserve,
        Sweep,
        Advance,
        SetBack,
    }

    // Few ids and users, so that they meet; times that now and then add up to a lifetime.
    private static readonly Gen<Operation> Operations = Gen.Select(
        Gen.Frequency(
            (3, Gen.Const(Kind.Create)), (9, Gen.Const(Kind.Turn)), (4, Gen.Const(Kind.Branch)), (3, Gen.Const(Kind.Siblings)),
                (2, Gen.Const(Kind.Fail)), (1, Gen.Const(Kind.Release)),
            (2, Gen.Const(Kind.Metadata)), (2, Gen.Const(Kind.Rewrite)), (2, Gen.Const(Kind.Delete)), (2, Gen.Const(Kind.Fork)),
                (1, Gen.Const(Kind.SealedFork)), (1, Gen.Const(Kind.Move)),
            (1, Gen.Const(Kind.Erase)), (2, Gen.Const(Kind.Reserve)), (1, Gen.Const(Kind.Sweep)), (5, Gen.Const(Kind.Advance)),
                (2, Gen.Const(Kind.SetBack))),
        Gen.Int[0, IdCount - 1], Gen.Int[0, IdCount - 1], Gen.Int[0, 2].Select(user => user == 0 ? null : user == 1 ? "u" : "v"),
            Gen.Int[0, 40],
        (kind, id, other, user, number) => new Operation(kind, id, other, user, number));

    private sealed record Operation(Kind Kind, int Index, int OtherIndex, string? User, int Number)
    {
        public string Id => $"s{Index}";

        public string Other => $"s{OtherIndex}";
    }

    /// <summary>How many random sequences to try: stores that are slower try fewer.</summary>
    protected virtual int ModelSequences => 300;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public Task Any_sequence_of_operations_gives_what_a_plain_list_gives(bool boundsBytes) =>
        Operations.Array[1, 60].SampleAsync(async operations =>
        {
            var time = new FakeTimeProvider(Start);
            var policy = new StorePolicy
            {
                Lifetime = kind => TimeSpan.FromMinutes(
                    kind switch { SessionKind.Session => 60, SessionKind.Conversation => 90, _ => 45 }),
                MaxPerUser = kind => kind switch { SessionKind.Session => 3, SessionKind.Conversation => 1, _ => 0 },
                ChainBytesPerOwner = boundsBytes ? 3000 : 0,
                UnownedBytes = boundsBytes ? 6000 : 0,
            };
            await using var store = await OpenAsync(policy, time);
            var run = new ModelRun(store, new StoreModel(policy, time), boundsBytes);
            for (var i = 0; i < operations.Length; i++)
            {
                await run.ApplyAsync(operations[i], i);
                await run.CompareAsync(operations[i]);
            }
        }, iter: ModelSequences, threads: 1);

    private sealed class ModelRun(TestStore store, StoreModel model, bool boundsBytes)
    {
        private static readonly TimeSpan MinLifetime = TimeSpan.FromMinutes(20);

        private readonly Dictionary<string, (Session Head, IReadOnlyList<Turn> Path)> _remembered = [];
        private readonly Guid[] _keys = [.. Enumerable.Range(0, 3).Select(_ => Guid.NewGuid())];

        public async Task ApplyAsync(Operation operation, int step)
        {
            var (kind, _, _, user, number) = operation;
            var (id, other) = (operation.Id, operation.Other);
            var query = $"q{step}" + (boundsBytes ? new string('x', number * 20) : "");
            var owner = Owner.Claiming(user);
            switch (kind)
            {
                case Kind.Create:
                    Guid? reservedBy = null;
                    if (number % 4 == 0 && KindOf(operation.Index) == SessionKind.Session)
                    {
                        var reserved = await store.Store.ReserveAsync(new(_keys[0], default), Owner.Anyone, id, Cancel);
                        Assert.Equal(model.Reserve(new(_keys[0], default), Owner.Anyone, id), reserved);
                        reservedBy = reserved.SessionId == id ? _keys[0] : null;
                    }

                    var created = await store.Store.CopyAsync(
                        new CopyRequest
                        {
                            Session = TestStore.New(id, user, new string('m', number * 10), KindOf(operation.Index), reservedBy),
                        }, Cancel);
                    Assert.Equal(model.Create(id, KindOf(operation.Index), user, number * 10, reservedBy), created.Status);
                    break;
                case Kind.Turn or Kind.Branch:
                    int? tip = kind == Kind.Branch ? number % (model.TurnCount(id) + 2) : null;
                    await TurnAsync(id, KindOf(operation.Index), owner, tip, query, number);
                    break;
                case Kind.Siblings:
                    await SiblingsAsync(id, KindOf(operation.Index), owner, query, number);
                    break;
                case Kind.Fail:
                    var failing = await BeginAsync(id, owner, null, null);
                    if (failing.Status == OpenStatus.Opened)
                    {
                        await store.Store.WriteAsync(failing,
                            new RecordFailure("error", failing.Session is null ? NewOf(id, KindOf(operation.Index), owner) : null),
                            Cancel);
                        model.Fail(id, KindOf(operation.Index), owner);
                    }

                    break;
                case Kind.Release:
                    await store.Store.ReleaseAsync(await BeginAsync(id, owner, null, null));
                    break;
                case Kind.Metadata:
                    if (await store.ReadAsync(id) is { Session: not null } changing)
                    {
                        Assert.Equal(model.ReplaceMetadata(id, number * 10),
                            (await store.ReplaceMetadataAsync(changing, new string('n', number * 10))).Status);
                    }

                    break;
                case Kind.Rewrite:
                    await RewriteAsync(id, number);
                    break;
                case Kind.Delete:
                    var deletes = user is null ? Owner.Anyone : Owner.Of(user);
                    var named = number % 2 == 0 && await store.GetAsync(id) is { } found ? SessionRef.ByKey(found.Key)
                        : SessionRef.ById(id);
                    Assert.Equal(model.Delete(id, deletes), await store.Store.DeleteAsync(named, deletes, Cancel));
                    break;
                case Kind.Fork:
                    Assert.Equal(model.Fork(id, number % 4, other, KindOf(operation.OtherIndex)),
                        (await store.Store.CopyAsync(new CopyRequest
                        {
                            Session = NewOf(other, KindOf(operation.OtherIndex), owner),
                            Source = SessionRef.ById(id),
                            AfterTurn = number % 4,
                        }, Cancel)).Status);
                    break;
                case Kind.SealedFork:
                    await SealedForkAsync(id, other, KindOf(operation.OtherIndex), number);
                    break;
                case Kind.Move:
                    await MoveAsync(id);
                    break;
                case Kind.Erase:
                    Assert.Equal(model.Erase(user ?? "u"), await store.Store.EraseAsync(user ?? "u", Cancel) is var erased
                        ? ((int)erased.Sessions, (int)erased.Turns) : default);
                    break;
                case Kind.Reserve:
                    var key = new Idempotency(_keys[number % 3], number % 7 == 0 ? _keys[0] : default);
                    Assert.Equal(model.Reserve(key, owner, id), await store.Store.ReserveAsync(key, owner, id, Cancel));
                    break;
                case Kind.Sweep:
                    await SweepAsync();
                    break;
                case Kind.SetBack:
                    // What has expired would live again, but for what a store has removed meanwhile, which is up to the store.
                    await SweepAsync();
                    for (var i = 0; i < _keys.Length; i++)
                    {
                        _keys[i] = Guid.NewGuid();
                    }

                    store.Time.AdjustTime(store.Time.GetUtcNow() - TimeSpan.FromMinutes(number));
                    break;
                default:
                    store.Time.Advance(TimeSpan.FromMinutes(number));
                    if (boundsBytes)
                    {
                        // Whether what has expired still counts for bytes is up to the store.
                        await SweepAsync();
                    }

                    break;
            }
        }

        public async Task CompareAsync(Operation operation)
        {
            Assert.Equal(model.Count(), await store.CountAsync());
            for (var i = 0; i < IdCount; i++)
            {
                var id = $"s{i}";
                var session = await store.GetAsync(id);
                Assert.Equal(model.Describe(id), StoreModel.Describe(session));
                if (session is null)
                {
                    continue;
                }

                var turns = await store.TurnsAsync(id);
                Assert.Equal(model.Turns(id), turns.Select(Short));
                AssertSame(turns.TakeLast(1), session.LastTurn is null ? [] : [session.LastTurn]);
                Assert.Equal(RunStarts(turns), turns.Select(turn => turn.RunStart));
                Assert.Equal(model.Path(id), (await store.PathAsync(id)).Select(Short));
                if (i == operation.Index)
                {
                    AssertSame(session, await store.GetAsync(SessionRef.ByKey(session.Key), Owner.Anyone));
                    await ComparePageAsync(id, turns, operation.Number);
                }

                await CompareKnownAsync(id, session);
                if (i == operation.OtherIndex)
                {
                    _remembered[id] = (session, await store.PathAsync(id));
                }
            }

            foreach (var user in (string?[])["u", "v", null])
            {
                Assert.Equal(model.List(user, null), await store.ListIdsAsync(user));
                Assert.Equal(model.List(user, SessionKind.Chain), await store.ListIdsAsync(user, kind: SessionKind.Chain));
            }
        }

        private static SessionKind KindOf(int index) => index < 5 ? SessionKind.Session : index == 5 ? SessionKind.Conversation
            : SessionKind.Chain;

        private static NewSession NewOf(string id, SessionKind kind, Owner owner, Guid? reservedBy = null) =>
            TestStore.New(id, owner.UserId, kind: kind, reservedBy: reservedBy);

        private static (int, int, string) Short(Turn turn) => (turn.Number, turn.Parent, turn.Input.ToString());

        private static IEnumerable<int> RunStarts(IReadOnlyList<Turn> turns)
        {
            var start = 1;
            foreach (var turn in turns)
            {
                yield return start = turn.Parent == turn.Number - 1 && turn.Number > 1 ? start : turn.Number;
            }
        }

        private async Task<OpenedSession> BeginAsync(string id, Owner owner, int? tip, Idempotency? key, bool isExclusive = true)
        {
            var opened = await store.BeginAsync(id, owner, 3, key, tip, TestStore.NewLease(MinLifetime, isExclusive));
            Assert.Equal(model.Open(id, owner, tip, key, MinLifetime), opened.Status);
            if (opened.Status == OpenStatus.Opened)
            {
                Assert.Equal(model.Path(id, tip).TakeLast(3), opened.Turns.Select(Short));
                Assert.Equal(model.Describe(id), StoreModel.Describe(opened.Session));
            }

            return opened;
        }

        private async Task TurnAsync(string id, SessionKind kind, Owner owner, int? tip, string query, int number)
        {
            Idempotency? key = number % 4 == 1 ? new Idempotency(_keys[number % 3], number % 8 == 5 ? _keys[1] : default) : null;
            var opened = await BeginAsync(id, owner, tip, key);
            if (opened.Status != OpenStatus.Opened)
            {
                return;
            }

            var summary = number % 5 == 0 ? $"summary {number}" : null;
            var turn = store.NewTurn(opened, query, "");
            var append = TestStore.NewAppend(opened, turn) with
            {
                Create = opened.Session is null ? NewOf(id, kind, owner) : null,
                Summary = summary is null ? null : new Summary(summary, model.TurnCount(id) + 1),
            };
            var result = await store.Store.WriteAsync(opened, append, Cancel);
            Assert.Equal(model.Append(id, kind, owner, turn.Parent, query, summary, key, null), result.Status);
            Assert.Equal(result.Status == WriteStatus.Written, result.Turn is not null);
            if (result.Status == WriteStatus.Written)
            {
                Assert.Equal(model.Describe(id), StoreModel.Describe(result.Session));
            }
        }

        // Several turns at once on a chain, each from a turn of its own; elsewhere one after the other.
        private async Task SiblingsAsync(string id, SessionKind kind, Owner owner, string query, int number)
        {
            var count = model.TurnCount(id);
            if (kind != SessionKind.Chain || count == 0)
            {
                await TurnAsync(id, kind, owner, null, query, number);
                return;
            }

            List<OpenedSession> opened = [];
            for (var i = 0; i < 3; i++)
            {
                opened.Add(await BeginAsync(id, owner, (number + i) % (count + 1), null, isExclusive: false));
            }

            foreach (var branch in opened.Where(branch => branch.Status == OpenStatus.Opened).Reverse())
            {
                // Its user may be another than when it was opened: then it is bound by now.
                var turn = store.NewTurn(branch, query, "");
                var result = await store.Store.WriteAsync(branch, TestStore.NewAppend(branch, turn) with { BesideOthers = true }, Cancel);
                Assert.Equal(model.Append(id, kind, owner, turn.Parent, query, null, null, null), result.Status);
            }
        }

        private async Task RewriteAsync(string id, int number)
        {
            if (model.TurnCount(id) is var count and > 0)
            {
                var changed = (number % count) + 1;
                var opened = await store.ReadAsync(id);
                var turn = (await store.TurnsAsync(id))[changed - 1] with
                {
                    Input = number % 3 == 0 ? Items.None : Items.OfText("rewritten"),
                };
                Assert.Equal(WriteStatus.Written, (await store.Store.WriteAsync(opened, new ReplaceTurn(turn, number % 2 == 0), Cancel))
                    .Status);
                model.ReplaceTurn(id, changed, turn.Input.ToString(), number % 2 == 0);
            }
        }

        private async Task SealedForkAsync(string id, string other, SessionKind kind, int number)
        {
            if (await store.GetAsync(id) is not { } source)
            {
                return;
            }

            var count = number % (source.TurnCount + 1);
            var turns = (await store.TurnsAsync(id)).Take(count);
            var copied = await store.Store.CopyAsync(new CopyRequest
            {
                Session = NewOf(other, kind, Owner.Anyone),
                Source = SessionRef.ById(id),
                SourceKey = source.Key,
                AfterTurn = count,
                Turns = turns.Select(turn => new ArchivedTurn(turn, null)).ToAsyncEnumerable(),
                Summary = source.Summary?.CoversTurns <= count ? source.Summary : null,
            }, Cancel);
            Assert.Equal(model.Fork(id, count, other, kind), copied.Status);
        }

        // Exported, deleted, and imported again as it was.
        private async Task MoveAsync(string id)
        {
            if (model.IsReserved(id) || await store.GetAsync(id) is not { } session)
            {
                return;
            }

            var entries = (await store.ExportAsync()).SkipWhile(entry => entry.Session?.Session.Id != id).ToList();
            await store.DeleteAsync(id);
            var moved = await store.Store.CopyAsync(
                ImportOf(entries[0].Session!.Session, entries.Skip(1).TakeWhile(entry => entry.Turn is not null)
                    .Select(entry => entry.Turn!).ToAsyncEnumerable()), Cancel);
            Assert.Equal(CopyStatus.Created, moved.Status);
            AssertSame(session, await store.GetAsync(id));
        }

        private async Task SweepAsync()
        {
            await store.Store.SweepAsync(Cancel);
            model.RemoveExpired();
        }

        private async Task ComparePageAsync(string id, IReadOnlyList<Turn> turns, int number)
        {
            var request = new TurnPageRequest
            {
                Limit = 1 + (number % 4),
                MaxBytes = number * 8,
                After = number % 3 == 0 ? number % (turns.Count + 2) : null,
                Descending = number % 2 == 0,
                Tip = number % 5 == 0 && turns.Count > 0 ? 1 + (number % turns.Count) : null,
                AllBranches = number % 7 == 0,
            };
            var page = await store.ReadTurnsAsync(id, request);
            var path = (request.AllBranches ? model.Turns(id) : model.Path(id, request.Tip)).Select(turn => turn.Number).ToList();
            var wanted = (request.Descending ? path.AsEnumerable().Reverse().Where(turn => request.After is null || turn < request.After)
                : path.Where(turn => turn > (request.After ?? 0))).ToList();
            List<int> expected = [];
            long bytes = 0;
            foreach (var turn in wanted.Take(request.Limit))
            {
                bytes += turns[turn - 1].Bytes;
                if (expected.Count > 0 && bytes > request.MaxBytes)
                {
                    break;
                }

                expected.Add(turn);
            }

            Assert.Equal(expected, page.Turns.Select(turn => turn.Number));
            AssertSame(expected.Select(turn => turns[turn - 1]), page.Turns);
            Assert.Equal(expected.Count < wanted.Count, page.HasMore);
        }

        // As the log does it: what is remembered and what is told make up what is there.
        private async Task CompareKnownAsync(string id, Session session)
        {
            if (!_remembered.TryGetValue(id, out var remembered))
            {
                return;
            }

            var opened = await store.Store.OpenAsync(
                new OpenRequest
                {
                    Session = SessionRef.ById(id),
                    Owner = Owner.Anyone,
                    HistoryTurns = 3,
                    Remembered = RememberedOf(remembered.Head),
                }, Cancel);
            var path = await store.PathAsync(id);
            if (session.Revision == remembered.Head.Revision && session.Key == remembered.Head.Key)
            {
                Assert.Equal(OpenStatus.Unchanged, opened.Status);
                AssertSame(remembered.Head, session);
                AssertSame(remembered.Path, path);
                return;
            }

            Assert.Equal(OpenStatus.Opened, opened.Status);
            AssertSame(session, opened.Session);
            AssertSame(path.TakeLast(3), (opened.FollowsRemembered ? remembered.Path.Concat(opened.Turns) : opened.Turns).TakeLast(3));
            if (opened.FollowsRemembered)
            {
                AssertSame(path, remembered.Path.Concat(opened.Turns));
            }
        }
    }
}
