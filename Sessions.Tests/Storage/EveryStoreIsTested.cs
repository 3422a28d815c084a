namespace Sessions.Tests.Storage;

public sealed class EveryStoreIsTested
{
    [Fact]
    public void Each_store_has_a_test_class_that_holds_it_to_the_contract()
    {
        var stores = typeof(ISessionStore).Assembly.GetTypes()
            .Where(type => type is { IsAbstract: false, IsInterface: false } && type.IsAssignableTo(typeof(ISessionStore)))
            .Select(type => type.Name);
        var tested = typeof(StoreContract).Assembly.GetTypes()
            .Where(type => !type.IsAbstract && type.IsAssignableTo(typeof(StoreContract)))
            .Select(type => type.Name)
            .ToHashSet();

        Assert.NotEmpty(stores);
        Assert.All(stores, store => Assert.Contains(store + "Tests", tested));
    }
}
