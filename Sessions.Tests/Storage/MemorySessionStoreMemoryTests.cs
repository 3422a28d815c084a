using Microsoft.Extensions.Time.Testing;

namespace Sessions.Tests.Storage;

/// <summary>
/// What only the memory store promises: that memory stays bounded, without a timer and in all, and what a session takes.
/// </summary>
[Collection(nameof(Alone))]
public sealed class MemorySessionStoreMemoryTests
{
    private static readonly DateTimeOffset Start = new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);

    [Fact]
    public async Task New_sessions_push_out_the_expired_ones_without_any_cleanup()
    {
        var expired = new List<WeakReference>();
        await using var store = await OpenAsync(NewPolicy(lifetimeHours: 1));
        for (var round = 0; round < 20; round++)
        {
            for (var i = 0; i < 500; i++)
            {
                await store.CreateAsync(Watched($"r{round}-{i}", expired));
            }

            store.Time.Advance(TimeSpan.FromHours(1));
        }

        // Each creation frees a few: of the 19 rounds that have expired no more than the last is still held.
        Assert.InRange(Alive(expired), 0, 1000);
        GC.KeepAlive(store);
    }

    [Fact]
    public async Task Deleted_sessions_do_not_pile_up()
    {
        var held = new List<WeakReference>();
        await using var store = await OpenAsync(NewPolicy());
        for (var i = 0; i < 5000; i++)
        {
            await store.CreateAsync(Watched($"s{i}", held));
            await store.DeleteAsync($"s{i}");
        }

        Assert.InRange(Alive(held), 0, 200);
        Assert.Equal(0, (await store.Store.CountAsync(TestStore.Cancel)).Bytes);
        GC.KeepAlive(store);
    }

    [Fact]
    public async Task An_idle_session_takes_no_more_than_was_said()
    {
        const int Users = 10_000;
        var taken = await MeasureAsync(async store =>
        {
            for (var user = 0; user < Users; user++)
            {
                for (var i = 0; i < 10; i++)
                {
                    await store.TurnAsync(Guid.CreateVersion7(store.Time.GetUtcNow()).ToString(), $"user-{user:000000}",
                        new string('q', 100), new string('r', 100));
                }
            }
        });

        // docs/scaling.md says so.
        Assert.InRange(taken / (Users * 10), 200, 200 + 360);
    }

    [Fact]
    public async Task A_plain_turn_takes_its_texts_and_a_little()
    {
        const int Turns = 100_000;
        var taken = await MeasureAsync(async store =>
        {
            for (var i = 0; i < Turns; i++)
            {
                await store.TurnAsync($"s{i % 50}", "user", new string('q', 50), new string('r', 50));
            }
        });

        Assert.InRange(taken / Turns, 100, 100 + 22);
    }

    [Fact]
    public async Task What_is_stored_in_all_is_bounded_and_nobody_makes_room_for_others()
    {
        const int Limit = 1_000_000;
        await using var store = await OpenAsync(NewPolicy(storedBytes: Limit));
        var text = new string('x', 9000);
        await store.TurnAsync("seen", "other", text);
        await store.TurnAsync("other's chain", "other", text, kind: SessionKind.Chain);
        await store.TurnAsync("chain", "user", text, kind: SessionKind.Chain);
        WriteResult result;
        for (var i = 0; ; i++)
        {
            result = await store.AppendAsync(await store.BeginAsync($"s{i}", "user"), text);
            if (result.Status != WriteStatus.Written)
            {
                break;
            }
        }

        Assert.Equal((WriteStatus.Full, "limits.stored_bytes"), (result.Status, result.Limit));
        Assert.InRange((await store.Store.CountAsync(TestStore.Cancel)).Bytes!.Value, Limit - 20_000, Limit);
        Assert.Null(await store.GetAsync("chain"));
        Assert.NotNull(await store.GetAsync("other's chain"));
        Assert.InRange((await store.ListIdsAsync("user")).Count, 95, 103);

        // Forks share what they have in common, and count for it all the same.
        Assert.Equal((CopyStatus.Full, "limits.stored_bytes"), await store.ForkAsync("s0", "fork") is var fork ? (fork.Status, fork.Limit)
            : default);
        Assert.Equal(WriteStatus.Full, (await store.ReplaceMetadataAsync(await store.ReadAsync("s0"), text)).Status);
        var full = await Assert.ThrowsAsync<DomainException>(async () =>
        {
            for (var i = 0; i < 100; i++)
            {
                await store.Store.ReserveAsync(new Idempotency(Guid.NewGuid(), default), Owner.Anyone, "x", TestStore.Cancel);
            }
        });
        Assert.Equal("storage_full", full.Error.Code);

        // What was read stays readable; what is deleted or has expired makes room.
        Assert.Equal(text, (await store.TurnsAsync("seen"))[0].Input.ToString());
        await store.DeleteAsync("s0");
        await store.TurnAsync("new", "user", text);
        store.Time.Advance(TimeSpan.FromHours(25));
        await store.TurnAsync("after", "third", new string('x', 900_000));
    }

    [Fact]
    public async Task Turns_are_whole_wherever_their_arrays_end()
    {
        await using var store = await OpenAsync(NewPolicy());
        for (var i = 1; i <= 60; i++)
        {
            var opened = await store.BeginAsync("a", history: 1);
            var turn = store.NewTurn(opened, $"{i}{new string('ä', i * i % 700)}", new string('b', i * 37 % 1900)) with
            {
                AgentType = $"agent-{i % 3}",
                Usage = i % 2 == 0 ? new TokenUsage(i * 1000L, i % 5 == 0 ? long.MaxValue : null) : null,
                ExecutionTime = TimeSpan.FromMicroseconds(i * 12345),
            };
            var result = await store.Store.WriteAsync(opened, TestStore.NewAppend(opened, turn), TestStore.Cancel);
            Assert.Equal(turn with { RunStart = 1 }, Plain(result.Turn!));
            Assert.Equal(turn with { RunStart = 1 }, Plain((await store.GetAsync("a"))!.LastTurn!));
        }

        var all = await PlainAsync("a");
        for (var turns = 0; turns <= 60; turns++)
        {
            var fork = await store.ForkAsync("a", $"fork-{turns}", turns);
            Assert.Equal(all.Take(turns), await PlainAsync($"fork-{turns}"));
            Assert.Equal(turns == 0 ? null : all[turns - 1], fork.Session!.LastTurn is { } last ? Plain(last) : null);
            Assert.Equal(all.Take(turns).TakeLast(7), (await store.BeginAsync($"fork-{turns}", history: 7)).Turns.Select(Plain));

            // Both go on, each for itself; what is deleted in one stays in the other.
            await store.TurnAsync($"fork-{turns}", query: "own");
            var opened = await store.ReadAsync($"fork-{turns}");
            var rewritten = (await store.TurnsAsync($"fork-{turns}"))[turns / 2] with { Output = Items.None };
            await store.Store.WriteAsync(opened, new ReplaceTurn(rewritten, false), TestStore.Cancel);
            Assert.Equal("own", (await store.TurnsAsync($"fork-{turns}"))[^1].Input.ToString());
            Assert.Equal(Plain(rewritten), (await PlainAsync($"fork-{turns}"))[turns / 2]);
            Assert.Equal(all, await PlainAsync("a"));
            foreach (var isDescending in (bool[])[false, true])
            {
                var page = await store.ReadTurnsAsync("a", new TurnPageRequest
                {
                    Limit = 9,
                    MaxBytes = int.MaxValue,
                    After = turns,
                    Descending = isDescending,
                });
                Assert.Equal(isDescending ? all.Take(Math.Max(0, turns - 1)).TakeLast(9).Reverse() : all.Skip(turns).Take(9),
                    page.Turns.Select(Plain));
            }
        }

        static Turn Plain(Turn turn) => turn with { Response = default };

        async Task<List<Turn>> PlainAsync(string id) => [.. (await store.TurnsAsync(id)).Select(Plain)];
    }

    [Theory]
    [InlineData("01a20ae6-3490-7a40-adff-b1e282febc86")]
    [InlineData("01A20AE6-3490-7A40-ADFF-B1E282FEBC86")]
    [InlineData("01a20ae634907a40adffb1e282febc86")]
    [InlineData("00000000-0000-0000-0000-000000000000")]
    [InlineData("x")]
    public async Task An_id_comes_back_as_it_was_given_however_it_is_kept(string id)
    {
        await using var store = await OpenAsync(NewPolicy());
        await store.CreateAsync(id, "user");
        Assert.Equal(id, Assert.Single(await store.ListIdsAsync("user")));
        Assert.Equal(id, (await store.GetAsync(id))!.Id);
        foreach (var other in new[] { id.ToUpperInvariant(), id.ToLowerInvariant(), id.Replace("-", "", StringComparison.Ordinal) }.Where(
            other => other != id))
        {
            Assert.Null(await store.GetAsync(other));
        }
    }

    [Fact]
    public async Task Many_sessions_stay_in_order_whatever_is_done_to_them()
    {
        await using var store = await OpenAsync(NewPolicy());
        List<string> expected = [];
        var random = new Random(1);
        for (var i = 0; i < 6000; i++)
        {
            var touched = expected.Count > 0 && random.Next(3) > 0 ? expected[random.Next(expected.Count)] : null;
            if (touched is not null && random.Next(4) == 0)
            {
                await store.DeleteAsync(touched);
                expected.Remove(touched);
                continue;
            }

            var id = touched ?? $"s{i}";
            await store.FailAsync(id, "user");
            expected.Remove(id);
            expected.Add(id);
            store.Time.Advance(TimeSpan.FromMicroseconds(1));
        }

        // Some come in behind others, as in an import.
        foreach (var user in (string?[])["user", null])
        {
            List<string> seen = [];
            for (var request = new SessionPageRequest { UserId = user, Limit = 97, Ascending = true }; ;)
            {
                var page = await store.Store.ListAsync(request, TestStore.Cancel);
                seen.AddRange(page.Items.Select(session => session.Id));
                if (page.Next is not { } next)
                {
                    break;
                }

                request = request with { After = next };
            }

            Assert.Equal(expected, seen);
        }
    }

    private static ValueTask<TestStore> OpenAsync(StorePolicy policy)
    {
        var time = new FakeTimeProvider(Start);
        return TestStore.OpenAsync(policy, time, given => new(new MemorySessionStore(given, time)));
    }

    private static StorePolicy NewPolicy(double lifetimeHours = 24, long storedBytes = 0) => new()
    {
        Lifetime = _ => TimeSpan.FromHours(lifetimeHours),
        MaxPerUser = _ => 0,
        StoredBytes = storedBytes,
    };

    // Of three, the one in the middle: what tests before this one have left is freed in between.
    private static async Task<long> MeasureAsync(Func<TestStore, Task> fill)
    {
        List<long> taken = [];
        while (taken.Count < 3)
        {
            await using var store = await OpenAsync(NewPolicy());
            var before = GC.GetTotalMemory(forceFullCollection: true);
            await fill(store);
            taken.Add(GC.GetTotalMemory(forceFullCollection: true) - before);
            GC.KeepAlive(store);
        }

        return taken.Order().ElementAt(1);
    }

    private static int Alive(List<WeakReference> references)
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
        GC.Collect();
        return references.Count(reference => reference.IsAlive);
    }

    // The store keeps an id that is no UUID as it was given: when the string is gone, so is the session.
    private static string Watched(string id, List<WeakReference> references)
    {
        var own = new string(id);
        references.Add(new WeakReference(own));
        return own;
    }
}
